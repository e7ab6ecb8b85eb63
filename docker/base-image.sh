#!/bin/bash
# Make the Debian base image without an image registry, from a package mirror alone.
#
#   docker/base-image.sh NAME[:TAG] [SUITE]
#
# Then: python -m local.image build --base-image NAME[:TAG]
# Needs mmdebstrap and root. MIRROR names another Debian mirror than apt's own; PLATFORM is linux/amd64
# (what `make build` builds) or linux/arm64, for which another machine needs qemu-user-static.
set -euo pipefail

name=${1:?"usage: docker/base-image.sh NAME[:TAG] [SUITE]"}
suite=${2:-trixie}
platform=${PLATFORM:-linux/amd64}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Documentation and translations are never read in a container.
mmdebstrap \
    --architectures="${platform#linux/}" \
    --variant=minbase \
    --include=ca-certificates,python3,python3-venv \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    "$suite" "$work/base.tar" ${MIRROR:+"$MIRROR"}

docker import --platform "$platform" --change 'CMD ["bash"]' "$work/base.tar" "$name"
if [ "$(docker image inspect --format '{{.Os}}/{{.Architecture}}' "$name")" != "$platform" ]; then
    # Engines before 23 give every import their own platform.
    printf 'FROM scratch\nADD base.tar /\nCMD ["bash"]\n' >"$work/Dockerfile"
    docker image rm "$name" >/dev/null
    DOCKER_BUILDKIT=1 docker build --quiet --platform "$platform" --tag "$name" "$work"
fi
