/*
 * reason.c — three tables from failures to names.
 */
#include "reason.h"

enum session_reason reason_of_client(enum failure failure)
{
    switch (failure) {
    case FAILURE_NONE:
    case FAILURE_NO_MEMORY:
        return SESSION_NO_MEMORY;
    case FAILURE_RESET:
        return SESSION_CLIENT_RST;
    case FAILURE_TIMED_OUT:
        return SESSION_CLIENT_TIMEOUT;
    case FAILURE_TLS:
        return SESSION_TLS_CLIENT;
    case FAILURE_TLS_EOF:
        return SESSION_TLS_EOF;
    case FAILURE_PROXY_HEADER:
        return SESSION_PROXY_HEADER;
    case FAILURE_REFUSED:
    case FAILURE_UNREACHABLE:
    case FAILURE_CONNECT_TIMEOUT:
    case FAILURE_NAME:
    case FAILURE_NO_DESCRIPTOR:
    case FAILURE_NO_PORT:
    case FAILURE_LOOP:
    case FAILURE_LOCAL:
        return SESSION_IO_ERROR;
    }
    return SESSION_IO_ERROR;
}

enum session_reason reason_of_primary(enum failure failure)
{
    switch (failure) {
    case FAILURE_NONE:
    case FAILURE_NO_MEMORY:
        return SESSION_NO_MEMORY;
    case FAILURE_RESET:
        return SESSION_PRIMARY_RST;
    case FAILURE_REFUSED:
        return SESSION_PRIMARY_REFUSED;
    case FAILURE_UNREACHABLE:
        return SESSION_PRIMARY_UNREACHABLE;
    case FAILURE_CONNECT_TIMEOUT:
    case FAILURE_TIMED_OUT:
        return SESSION_PRIMARY_TIMEOUT;
    case FAILURE_NAME:
        return SESSION_PRIMARY_DNS;
    case FAILURE_NO_DESCRIPTOR:
        return SESSION_NO_DESCRIPTOR;
    case FAILURE_NO_PORT:
        return SESSION_NO_PORT;
    case FAILURE_TLS:
        return SESSION_TLS_PRIMARY;
    case FAILURE_TLS_EOF:
        return SESSION_TLS_EOF;
    case FAILURE_LOOP:
        return SESSION_LOOP;
    case FAILURE_PROXY_HEADER: /* only clients are asked for one */
    case FAILURE_LOCAL:
        return SESSION_IO_ERROR;
    }
    return SESSION_IO_ERROR;
}

enum shadow_reason reason_of_shadow(enum failure failure)
{
    switch (failure) {
    case FAILURE_NONE:
    case FAILURE_NO_MEMORY:
        return SHADOW_MEMORY;
    case FAILURE_RESET:
        return SHADOW_RST;
    case FAILURE_REFUSED:
        return SHADOW_REFUSED;
    case FAILURE_UNREACHABLE:
        return SHADOW_UNREACHABLE;
    case FAILURE_CONNECT_TIMEOUT:
        return SHADOW_CONNECT_TIMEOUT;
    case FAILURE_TIMED_OUT:
        return SHADOW_STALL;
    case FAILURE_NAME:
        return SHADOW_DNS;
    case FAILURE_NO_DESCRIPTOR:
        return SHADOW_NO_DESCRIPTOR;
    case FAILURE_NO_PORT:
        return SHADOW_NO_PORT;
    case FAILURE_TLS:
    case FAILURE_TLS_EOF:
        return SHADOW_TLS;
    case FAILURE_LOOP:
        return SHADOW_LOOP;
    case FAILURE_PROXY_HEADER:
    case FAILURE_LOCAL:
        return SHADOW_IO_ERROR;
    }
    return SHADOW_IO_ERROR;
}

bool reason_is_from_outside(enum shadow_reason reason)
{
    return reason == SHADOW_SESSION_ABORTED || reason == SHADOW_DRAIN || reason == SHADOW_ADMIN;
}
