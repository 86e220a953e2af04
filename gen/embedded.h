// embedded.h: the files that mpgen carries with it (templates/, runtime/ and specs/lib), so that it works from any
// folder and can be installed alone. The build makes the definition from the files.
#ifndef EMBEDDED_H
#define EMBEDDED_H

#include <stddef.h>

// The bytes of the file `path` ("specs/lib/nn.lua", "templates/sum.cu", relative to the repository, with '/') as it
// was when mpgen was built, and their number; NULL when there is no such file. The bytes belong to the program.
const char *embedded_file(const char *path, size_t *size);

// The path of the file number `index`, from 0, sorted by path; NULL at the end.
const char *embedded_path(int index);

#endif
