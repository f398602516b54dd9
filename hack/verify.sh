#!/usr/bin/env bash
# Fails where something in the repository is not what its sources say: generated files, go.mod and go.sum files, the
# formatting of Go code, the kustomizations in config/. It compares the generated files before and after generating
# them again rather than asking git, so it works with edits and untracked files around, and leaves the new versions in
# place.
#
#   hack/verify.sh <directory of a Go module>...
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
unset MAKEFLAGS MFLAGS MAKELEVEL # the make below is not part of the one that may have called us

failures=()
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

generated_files() {
  local place
  for place in api config/crd/bases config/rbac/role.yaml docs/api; do
    if [[ -e $place ]]; then
      find "$place" -type f \( ! -path 'api/*' -o -name 'zz_generated.*' \)
    fi
  done | LC_ALL=C sort
}

verify_generated() {
  local file
  echo "Generating the DeepCopy methods, the CRD, the ClusterRole and the API reference again"
  generated_files >"$work/before"
  mkdir "$work/old"
  xargs -r -d '\n' cp --parents -t "$work/old" <"$work/before"
  xargs -r -d '\n' touch -d '2000-01-01' <"$work/before" # what is not written again keeps this date
  touch -d '2000-01-02' "$work/stamp"
  make --no-print-directory --silent generate manifests docs-api
  generated_files >"$work/after"

  while IFS= read -r file; do
    if [[ ! -e $work/old/$file ]]; then
      failures+=("$file was missing. It has been generated: add it to the commit.")
    elif ! cmp -s "$work/old/$file" "$file"; then
      diff -u --label "$file (as it was)" --label "$file (as generated)" "$work/old/$file" "$file" | head -n 40 || true
      failures+=("$file was stale. It has been generated again: add it to the commit.")
    elif [[ ! $file -nt $work/stamp ]]; then
      failures+=("$file is not generated any more: delete it.")
    fi
  done <"$work/after"
}

verify_modules() {
  local module
  for module; do
    echo "Checking go.mod and go.sum in $module"
    if ! (cd -- "$module" && go mod tidy -diff) >"$work/tidy" 2>"$work/errors"; then
      head -n 40 "$work/tidy"
      grep -v '^go: downloading ' "$work/errors" >&2 || true
      failures+=("go.mod or go.sum in $module is not tidy: run go mod tidy there.")
    fi
  done
}

verify_format() {
  local file
  echo "Checking the formatting of Go code"
  while IFS= read -r file; do
    failures+=("$file is not formatted: run make fmt.")
  done < <(find . \( -path ./bin -o -path ./.git \) -prune -o -name '*.go' -type f -print0 | xargs -0 gofmt -l)
}

verify_kustomizations() {
  local directory
  echo "Building the kustomizations in config"
  for directory in config/*/; do
    if [[ -e ${directory}kustomization.yaml ]] && ! "${KUSTOMIZE:-kustomize}" build "$directory" >/dev/null; then
      failures+=("$directory is not a kustomization that builds.")
    fi
  done
}

verify_generated
verify_modules "$@"
verify_format
verify_kustomizations

if ((${#failures[@]} > 0)); then
  printf '\nNot up to date:\n' >&2
  printf '  %s\n' "${failures[@]}" >&2
  exit 1
fi
echo "Everything is up to date"
