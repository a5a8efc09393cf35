/*
 * sanitized.h — whether this build has AddressSanitizer (IS_SANITIZED is defined, or not).
 */
#ifndef BASE_SANITIZED_H
#define BASE_SANITIZED_H

#if defined(__SANITIZE_ADDRESS__)
#define IS_SANITIZED /* gcc */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define IS_SANITIZED /* clang */
#endif
#endif

#endif
