/*
 * effects.h — what was said and changes nothing.
 *
 * Nothing of it is wrong by itself, so that it is a warning: whoever says --tls-client-ca believes that
 * clients are asked for certificates.  Limits and times that happen not to be reached are no matter.
 */
#ifndef CONFIG_EFFECTS_H
#define CONFIG_EFFECTS_H

struct config;
struct config_warnings;
struct shadow_config;

/* A sentence for each setting without effect; defaults are those of all shadows. */
void effects_warn(const struct config *, const struct shadow_config *defaults,
                  struct config_warnings *);

#endif
