/* tokenize.c -- how fast a tokenizer is: encodes a text, ROUNDS times, and prints the best megabytes per CPU second and the tokens.
 *
 *     tokenize TOKENIZER TEXT [ROUNDS]      TOKENIZER: tokenizer.json, tokenizer.model, encoder.json ... (ghostmax tokenize --help)
 *
 * Build after `make install`:  cc tokenize.c $(pkg-config --cflags --libs ghostmax) -o tokenize */
#include <ghostmax_model.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static char *read_file(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    long end = fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1;
    char *text = end >= 0 ? malloc((size_t)end + 1) : NULL;
    *size = text ? (size_t)end : 0;
    rewind(f);
    if (text && fread(text, 1, *size, f) != *size) {
        free(text);
        text = NULL;
    }
    fclose(f);
    return text;
}

int main(int argc, char **argv) {
    gm_tokenizer *tokenizer = NULL;
    gm_error err;
    size_t size = 0;
    if (argc < 3) {
        fprintf(stderr, "usage: tokenize TOKENIZER TEXT [ROUNDS]\n");
        return 2;
    }
    char *text = read_file(argv[2], &size);
    if (!text) {
        fprintf(stderr, "tokenize: cannot read '%s'\n", argv[2]);
        return 1;
    }
    gm_status status = gm_tokenizer_load(&tokenizer, argv[1], &err);
    double best = 0;
    int64_t count = 0;
    for (int round = argc > 3 ? atoi(argv[3]) : 1; round > 0 && status == GM_OK; round--) {
        int32_t *ids;
        clock_t start = clock();
        status = gm_tokenizer_encode(tokenizer, text, size, &ids, &count, &err);
        double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
        if (status == GM_OK)
            gm_tokens_free(ids);
        if (best == 0 || seconds < best)
            best = seconds;
    }
    if (status == GM_OK)
        printf("%.2f MB/s, %lld tokens\n", (double)size / best / 1e6, (long long)count);
    else
        fprintf(stderr, "tokenize: %s\n", err.msg);
    gm_tokenizer_free(tokenizer);
    free(text);
    return status == GM_OK ? 0 : 1;
}
