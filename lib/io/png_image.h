/* png_image.h -- a field of shades as a PNG. */
#ifndef GM_PNG_IMAGE_H
#define GM_PNG_IMAGE_H

#include "base.h"

/* shades [height, width], 0 to 255: black over red and yellow to white. *png is freed with free(). Errors: GM_EINVAL (no pixels, too
 * many), GM_ENOMEM. Test: tests/io/test_event_file.c */
gm_status gm_png_encode(uint8_t **png, size_t *size, const uint8_t *shades, int width, int height, gm_error *err);

#endif
