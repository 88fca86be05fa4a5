# docker build -t sluice .
# docker run -p 8080:8080 -v "$PWD/config:/etc/sluice:ro" -v sluice-state:/var/lib/sluice sluice
#
# Mount the *folder* that holds sluice.toml, not the file: most editors, and Kubernetes, replace the file, and a mounted file
# would go on showing the old one. Leave out `:ro` if `sluice deploy` shall edit the file from inside.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
# Cargo wants every target that the manifest names to exist; only the binary is built, with the reference in it.
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY config config
COPY benches benches
COPY tests tests
# The fully optimised profile: a slow build for a program that runs for months.
RUN cargo build --locked --profile dist --bin sluice
# Four fifths of the file are line numbers for debuggers; names of functions stay, for what a panic says.
RUN strip --strip-debug target/dist/sluice

FROM debian:bookworm-slim
COPY --from=build /build/target/dist/sluice /usr/local/bin/sluice
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/sluice/
# A number, so that Kubernetes can see that it is not root (runAsNonRoot).
RUN groupadd --system --gid 10001 sluice \
 && useradd --system --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin sluice \
 && install -d -o 10001 -g 10001 -m 0750 /var/lib/sluice \
 && install -d -o 10001 -g 10001 -m 0755 /run/sluice \
 && install -d -m 0755 /etc/sluice
USER 10001:10001
# Where the journal and the admin socket are, for `run` and for `docker exec … sluice status` alike.
ENV STATE_DIRECTORY=/var/lib/sluice RUNTIME_DIRECTORY=/run/sluice
# A rollout that a crash interrupted goes on from here.
VOLUME /var/lib/sluice
EXPOSE 8080
# Turns false when a shutdown begins, so that traffic goes elsewhere before clients are let go.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=2 CMD ["sluice", "status", "--ready"]
# SIGTERM drains. Docker kills after 10 s unless told: `docker run --stop-timeout 40` gives `shutdown.deadline` its 30 s.
STOPSIGNAL SIGTERM
ENTRYPOINT ["sluice"]
CMD ["run"]
