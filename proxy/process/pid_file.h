/*
 * pid_file.h — --pid-file: who the supervisor is, for whoever wants to signal it.
 */
#ifndef PROCESS_PID_FILE_H
#define PROCESS_PID_FILE_H

#include <stdbool.h>

struct fault;

/* The file appears whole: it is made under another name in the same directory and renamed.  A file or
 * symbolic link that is there already is replaced, never written to or followed; anything else, say
 * a device, is refused.  Everybody may read it.  Where the directory does not let us, a file that is
 * there already is written to, and keeps its permissions.  False: the fault says why. */
bool pid_file_write(const char *path, struct fault *);
/* Removes it if it still names this process. */
void pid_file_remove(const char *path);

#endif
