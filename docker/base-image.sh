#!/bin/bash
# Make the Debian base image without an image registry, from a package mirror alone.
#
#   docker/base-image.sh NAME[:TAG] [SUITE]
#
# Then: python -m local.image build --base-image NAME[:TAG]
# Needs mmdebstrap and root. MIRROR names another Debian mirror than apt's own.
set -euo pipefail

name=${1:?"usage: docker/base-image.sh NAME[:TAG] [SUITE]"}
suite=${2:-bookworm}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Documentation and translations are never read in a container.
mmdebstrap \
    --variant=minbase \
    --include=ca-certificates,python3,python3-venv \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    "$suite" "$work/base.tar" ${MIRROR:+"$MIRROR"}

docker import --change 'CMD ["bash"]' "$work/base.tar" "$name"
