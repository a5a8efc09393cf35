/*
 * io.h — the four words in which everything that moves bytes without waiting answers.
 */
#ifndef BASE_IO_H
#define BASE_IO_H

enum io {
    IO_OK,      /* some bytes moved */
    IO_AGAIN,   /* none could move now; try again when the socket is ready */
    IO_END,     /* no byte will follow, in good order */
    IO_FAILED,  /* the connection is gone, or never came to be: see transport_failure() */
};

#endif
