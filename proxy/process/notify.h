/*
 * notify.h — tells the service manager how we are ($NOTIFY_SOCKET, sd_notify(3)).
 *
 *     starting ──READY=1──▶ serving ──RELOADING=1──▶ reloading ──READY=1──▶ serving ──STOPPING=1──▶
 *
 * Without the variable nothing is said.  Saying never waits: what cannot be taken at once is a
 * warning.
 */
#ifndef PROCESS_NOTIFY_H
#define PROCESS_NOTIFY_H

/* All serves; status is a sentence for whoever asks the manager. */
void notify_ready(const char *status);
/* A new configuration is being taken up; notify_ready() ends that, whether it succeeded or not. */
void notify_reloading(void);
void notify_stopping(const char *status);

#endif
