#!/usr/bin/env bash
# Writes the tree of the commit that hack/previous-release names into an empty directory, and prints the commit.
#
#   hack/previous-release.sh <directory>
set -euo pipefail
out=$(cd -- "${1:?give the directory to write the previous release into}" && pwd)
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

commit=$(awk '!/^#/ && NF { print $1; exit }' hack/previous-release)
if [[ ! $commit =~ ^[0-9a-f]{40}$ ]]; then
  echo "hack/previous-release names \"$commit\": give the 40 hex digits of a commit." >&2
  exit 1
fi
if ! inside=$(git rev-parse --show-toplevel 2>/dev/null) || [[ $inside != "$PWD" ]]; then
  echo "The previous release, $commit, is taken from git, and $PWD is not a clone: clone the repository." >&2
  exit 1
fi
if ! git cat-file -e "$commit^{commit}" 2>/dev/null; then
  if [[ $(git rev-parse --is-shallow-repository) == true ]]; then
    echo "This clone is shallow and lacks the previous release, $commit: run git fetch --unshallow." \
      "In a GitHub workflow, give actions/checkout fetch-depth: 0." >&2
  else
    echo "This clone lacks the previous release, $commit: fetch the branch that has it, or correct hack/previous-release." >&2
  fi
  exit 1
fi
git archive --format=tar "$commit" | tar -xf - -C "$out"
echo "$commit"
