/* png_image.c -- libpng's simplified interface, with a palette of heat. */
#include "png_image.h"

#include <png.h>
#include <stdlib.h>
#include <string.h>

static uint8_t clamp(int x) {
    return (uint8_t)(x < 0 ? 0 : x > 255 ? 255 : x);
}

gm_status gm_png_encode(uint8_t **png, size_t *size, const uint8_t *shades, int width, int height, gm_error *err) {
    uint8_t palette[256][3];
    png_image image = {.version = PNG_IMAGE_VERSION, .format = PNG_FORMAT_RGB_COLORMAP, .colormap_entries = 256};
    *png = NULL;
    if (width < 1 || height < 1 || (int64_t)width * height > 1 << 26)
        return gm_fail(err, GM_EINVAL, "a picture of %d x %d pixels cannot be written", width, height);
    for (int i = 0; i < 256; i++) {
        for (int c = 0; c < 3; c++)
            palette[i][c] = clamp(3 * i - 255 * c);
    }
    image.width = (png_uint_32)width;
    image.height = (png_uint_32)height;
    png_alloc_size_t bytes = PNG_IMAGE_PNG_SIZE_MAX(image);
    *png = malloc(bytes);
    if (!*png)
        return gm_fail_memory(err, bytes);
    if (!png_image_write_to_memory(&image, *png, &bytes, 0, shades, width, palette)) {
        free(*png);
        *png = NULL;
        return gm_fail(err, GM_EIO, "cannot make a PNG of %d x %d pixels: %s", width, height, image.message);
    }
    *size = bytes;
    return GM_OK;
}
