/*
 * replay.c — gives a fuzz target the files of its corpus, without the fuzzer.
 *
 *     replay FILE...
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define FILE_MAX 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char *argv[])
{
    static uint8_t bytes[FILE_MAX];

    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");

        if (file == NULL) {
            perror(argv[i]);
            return EXIT_FAILURE;
        }
        size_t length = fread(bytes, 1, sizeof bytes, file);
        fclose(file);
        LLVMFuzzerTestOneInput(bytes, length);
    }
    printf("%d files\n", argc - 1);
    return argc > 1 ? EXIT_SUCCESS : EXIT_FAILURE;
}
