/* msan.c -- linked into every program of `make msan`, with -Wl,--wrap for every function below: tells the memory sanitizer what the
 * libraries that are not built with it have written. What they copy, print or read by way of the C library, it sees itself.
 *
 * jansson's memory is given zeroed instead: first of all, so that the program's own watcher (lib/base/json.c) stands above it. */
#include <jansson.h>
#include <png.h>
#include <protobuf-c/protobuf-c.h>
#include <sanitizer/msan_interface.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define WRAPPED(type, name, ...)     \
    type __real_##name(__VA_ARGS__); \
    type __wrap_##name(__VA_ARGS__); \
    type __wrap_##name(__VA_ARGS__)

static void *zeroed(size_t n) {
    return calloc(n ? n : 1, 1);
}

__attribute__((constructor(101))) static void begin_json(void) {
    json_set_alloc_funcs(zeroed, free);
}

/* Before jansson builds texts by way of its stack, which holds what our functions have left there. */
__attribute__((noinline)) static void clean_stack(void) {
    char room[1 << 18];
    __msan_unpoison(room, sizeof room);
    __asm__ volatile("" : : "r"(room) : "memory");
}

WRAPPED(char *, json_dumps, const json_t *root, size_t flags) {
    clean_stack();
    return __real_json_dumps(root, flags);
}

WRAPPED(int, json_dump_file, const json_t *root, const char *path, size_t flags) {
    clean_stack();
    return __real_json_dump_file(root, path, flags);
}

WRAPPED(json_t *, json_loadb, const char *bytes, size_t n, size_t flags, json_error_t *error) {
    clean_stack();
    json_t *root = __real_json_loadb(bytes, n, flags, error);
    __msan_unpoison(error, error ? sizeof *error : 0);
    return root;
}

WRAPPED(json_t *, json_loads, const char *text, size_t flags, json_error_t *error) {
    clean_stack();
    json_t *root = __real_json_loads(text, flags, error);
    __msan_unpoison(error, error ? sizeof *error : 0);
    return root;
}

WRAPPED(json_t *, json_load_file, const char *path, size_t flags, json_error_t *error) {
    clean_stack();
    json_t *root = __real_json_load_file(path, flags, error);
    __msan_unpoison(error, error ? sizeof *error : 0);
    return root;
}

/* Of "{s:i, s:I}" and the like, which are all that is unpacked here: names, each with the place for its value behind it. */
WRAPPED(int, json_unpack, json_t *root, const char *format, ...) {
    va_list fields, places;
    va_start(fields, format);
    va_copy(places, fields);
    int wrong = json_vunpack_ex(root, NULL, 0, format, fields);
    bool name = true;
    for (const char *p = format; !wrong && *p; p++) {
        if (strchr("{}:, ", *p))
            continue;
        void *next = va_arg(places, void *);
        if (!name)
            __msan_unpoison(next, *p == 'i' || *p == 'b' ? sizeof(int) : 8);
        name = !name;
    }
    va_end(places);
    va_end(fields);
    return wrong;
}

WRAPPED(int, png_image_write_to_memory, png_image *image, void *memory, png_alloc_size_t *bytes, int to_8_bit, const void *buffer,
        png_int_32 stride, const void *palette) {
    int done = __real_png_image_write_to_memory(image, memory, bytes, to_8_bit, buffer, stride, palette);
    __msan_unpoison(memory, done ? *bytes : 0);
    return done;
}

WRAPPED(size_t, protobuf_c_message_pack, const ProtobufCMessage *message, uint8_t *out) {
    size_t n = __real_protobuf_c_message_pack(message, out);
    __msan_unpoison(out, n);
    return n;
}

static void *zeroed_message(void *user, size_t n) {
    (void)user;
    return zeroed(n);
}

static void free_message(void *user, void *p) {
    (void)user;
    free(p);
}

WRAPPED(ProtobufCMessage *, protobuf_c_message_unpack, const ProtobufCMessageDescriptor *descriptor, ProtobufCAllocator *allocator,
        size_t n, const uint8_t *bytes) {
    ProtobufCAllocator from = {.alloc = zeroed_message, .free = free_message};
    return __real_protobuf_c_message_unpack(descriptor, allocator ? allocator : &from, n, bytes);
}

WRAPPED(utf8proc_ssize_t, utf8proc_iterate, const utf8proc_uint8_t *text, utf8proc_ssize_t size, utf8proc_int32_t *c) {
    utf8proc_ssize_t n = __real_utf8proc_iterate(text, size, c);
    __msan_unpoison(c, sizeof *c);
    return n;
}

WRAPPED(utf8proc_ssize_t, utf8proc_encode_char, utf8proc_int32_t c, utf8proc_uint8_t *out) {
    utf8proc_ssize_t n = __real_utf8proc_encode_char(c, out);
    __msan_unpoison(out, (size_t)n);
    return n;
}

WRAPPED(utf8proc_ssize_t, utf8proc_map, const utf8proc_uint8_t *text, utf8proc_ssize_t size, utf8proc_uint8_t **out,
        utf8proc_option_t options) {
    utf8proc_ssize_t n = __real_utf8proc_map(text, size, out, options);
    __msan_unpoison(out, sizeof *out);
    __msan_unpoison(*out, n < 0 ? 0 : (size_t)n + 1);
    return n;
}

WRAPPED(pcre2_code_8 *, pcre2_compile_8, PCRE2_SPTR8 pattern, PCRE2_SIZE size, uint32_t options, int *code, PCRE2_SIZE *at,
        pcre2_compile_context_8 *context) {
    pcre2_code_8 *compiled = __real_pcre2_compile_8(pattern, size, options, code, at, context);
    __msan_unpoison(code, sizeof *code);
    __msan_unpoison(at, sizeof *at);
    return compiled;
}

WRAPPED(int, pcre2_get_error_message_8, int code, PCRE2_UCHAR8 *out, PCRE2_SIZE size) {
    int n = __real_pcre2_get_error_message_8(code, out, size);
    __msan_unpoison(out, size);
    return n;
}

WRAPPED(PCRE2_SIZE *, pcre2_get_ovector_pointer_8, pcre2_match_data_8 *match) {
    PCRE2_SIZE *spans = __real_pcre2_get_ovector_pointer_8(match);
    __msan_unpoison(spans, 2 * sizeof *spans * pcre2_get_ovector_count_8(match));
    return spans;
}
