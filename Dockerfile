# Dockerfile — an image of the program, the shared libraries it loads and the certificate
# authorities; it has no shell, no packages and no root.
#
#     docker build -t doppel .
#     docker run --rm --read-only --cap-drop all -p 8080:8080 doppel -l 8080 -r primary.internal:8081
#
# docs/container.md says how to run it.  The packages have a stage of their own, so that a changed
# source does not install them anew.

FROM docker.io/library/debian:bookworm-slim AS packages
COPY tools/deps /doppel/tools/deps
RUN /doppel/tools/deps build && \
    apt-get install -y -qq --no-install-recommends ca-certificates

FROM packages AS builder
WORKDIR /doppel
COPY Makefile ./
COPY config config/
COPY proxy proxy/
COPY tools tools/
RUN make release && tools/image-files build/release/doppel /image

FROM scratch
LABEL org.opencontainers.image.title=doppel \
      org.opencontainers.image.description="A transparent TCP proxy that mirrors to shadows"
COPY --from=builder /image/ /
# The libraries look for a directory of hashed names by themselves; the image has the bundle.
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
# A number, because there is no /etc/passwd; orchestrators that insist on non-root want one anyway.
USER 65532:65532
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/doppel"]
# With --admin 127.0.0.1:9901, which is off by default:
# HEALTHCHECK --interval=5s --timeout=4s CMD ["/usr/bin/doppel", "--health", "127.0.0.1:9901"]
