/* Runs a fuzz target over the files of its argument, a folder, once and without libFuzzer, so that
   any compiler can check the corpus again.  TAP output: one line a target. */
#define _DEFAULT_SOURCE /* scandir */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv) {
    static uint8_t data[65536]; /* as large as the fuzzer's largest */
    char path[4096];
    static struct dirent **entries; /* static: still reachable for the leak checker */
    int runs = 0, count = argc == 2 ? scandir(argv[1], &entries, NULL, alphasort) : 0;
    printf("1..1\n");
    fflush(stdout);
    for (int i = 0; i < count; ++i) {
        if (entries[i]->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", argv[1], entries[i]->d_name);
        FILE *file = fopen(path, "rb");
        if (file == NULL) {
            printf("not ok 1 - %s: cannot be opened\n", path);
            return 1;
        }
        fprintf(stderr, "# %s\n", path); /* the last one is the one that failed */
        (void)LLVMFuzzerTestOneInput(data, fread(data, 1, sizeof data, file));
        fclose(file);
        ++runs;
    }
    printf("%s 1 - %s: %d inputs\n", runs > 0 ? "ok" : "not ok", count ? argv[1] : "", runs);
    printf("%d passed, %d failed\n", runs > 0, runs == 0);
    return runs == 0;
}
