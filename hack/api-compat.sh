#!/usr/bin/env bash
# Fails where the CRD or a Go package that others import breaks users of the release that hack/previous-release names, unless
# hack/api-compat/allowed says that and why it may. It needs bin/apidiff and bin/crdify: make api-compat builds them.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

old=$(mktemp -d)
trap 'rm -rf "$old"' EXIT
commit=$(hack/previous-release.sh "$old")
echo "Comparing the CRD and the Go packages with the previous release, ${commit:0:12}"
go run ./hack/api-compat --apidiff=bin/apidiff --crdify=bin/crdify "$old"
