#!/usr/bin/env bash
# Puts a release together from what is in this directory. make release calls it twice, and builds in between:
#
#   hack/release/release.sh check       fails where VERSION, the commit or the files are not fit for a release
#   hack/release/release.sh assemble    writes dist/release/<VERSION>
#
# The environment says the rest, as hack/make/release.mk sets it. SNAPSHOT=1 takes any version and any tree, to try it.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."
export LC_ALL=C TZ=UTC
umask 022

readonly project=auditstream-operator
readonly chart=charts/$project
: "${VERSION:=}" "${SNAPSHOT:=}"

fail() {
  echo "release: $*" >&2
  exit 1
}

snapshot() { [[ $SNAPSHOT =~ ^(1|true|yes)$ ]]; }

# The form that image tags, Helm and Go take alike: semantic versioning without build metadata.
check_version() {
  local number='(0|[1-9][0-9]*)' identifier='(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)'
  [[ $VERSION =~ ^v$number\.$number\.$number(-$identifier(\.$identifier)*)?$ ]] ||
    fail "VERSION is \"$VERSION\": give one such as v0.2.0 or v0.2.0-rc.1"
}

check_tree() {
  local changed tagged
  changed=$(git status --porcelain)
  [[ -z $changed ]] ||
    fail "the tree has changes that are not committed: commit them, or try with SNAPSHOT=1. They are"$'\n'"$(head -n 10 <<<"$changed")"
  if tagged=$(git rev-parse --quiet --verify "refs/tags/$VERSION^{commit}") && [[ $tagged != "$(git rev-parse HEAD)" ]]; then
    fail "the tag $VERSION is on commit $tagged, and this is another one: check that commit out, or choose a new version"
  fi
}

check_chart() {
  local key want found
  for key in version appVersion; do
    want=$VERSION
    if [[ $key == version ]]; then want=${VERSION#v}; fi
    found=$(awk -v key="$key:" '$1 == key { print $2; exit }' "$chart/Chart.yaml")
    [[ $found == "$want" ]] || fail "$chart/Chart.yaml says $key: $found: set it to $want, run make chart and commit both"
  done
}

# changelog_section prints what CHANGELOG.md has under this version or, where it has no such heading yet, under Unreleased.
changelog_section() {
  local heading
  for heading in "${VERSION#v}" Unreleased; do
    awk -v heading="$heading" '
      /^## / { word = $2; gsub(/^\[?v?|\]$/, "", word); inside = word == heading; next }
      inside { text = text $0 "\n" }
      END { gsub(/^\n+|\n+$/, "", text); if (text == "") exit 1; print text }' CHANGELOG.md && return
  done
  fail "CHANGELOG.md says nothing under ${VERSION#v} or Unreleased: write down there what is new"
}

check() {
  check_version
  changelog_section >/dev/null
  if ! snapshot; then
    check_tree
    check_chart
  fi
}

write_binaries() {
  local platform name
  for platform in $RELEASE_PLATFORMS; do
    name=$project-$VERSION-${platform/\//-}
    cp "$PLATFORM_DIR/${platform/\//-}/manager" "$out/$name"
    "$IMAGE_TOOL" sbom --version "$VERSION" --revision "$REVISION" --created "$SOURCE_DATE_EPOCH" --binary "$platform=$out/$name" \
      >"$out/$name.cdx.json"
  done
}

write_image() {
  cp "$IMAGE_DIR/$project-oci.tar" "$out/$project-$VERSION-image-oci.tar"
  digest=$(<"$IMAGE_DIR/digest")
}

# A package has the times of its files: all of them get the commit's.
write_chart() {
  mkdir "$work/chart"
  cp -r "$chart" "$work/chart/$project"
  find "$work/chart" -exec touch -d "@$SOURCE_DATE_EPOCH" {} +
  "$HELM" package "$work/chart/$project" --version "${VERSION#v}" --app-version "$VERSION" --destination "$out" >/dev/null
}

# The digest makes the manifest run what was built here, whatever becomes of the tag.
write_installer() {
  local image=$IMAGE:$VERSION@$digest
  "$KUSTOMIZE" build config/default | sed "s|image: controller:latest\$|image: $image|" >"$out/install.yaml"
  grep -qF "image: $image" "$out/install.yaml" || fail "config/default has no image: controller:latest, which is to be replaced by $image"
}

write_notes() {
  {
    changelog_section
    printf '\n### Image\n\n`%s`, built with %s\n' "$IMAGE:$VERSION@$digest" "$(go env GOVERSION)"
  } >"$out/RELEASE_NOTES.md"
}

assemble() {
  local target=dist/release/$VERSION digest
  mkdir -p dist/release
  work=$(mktemp -d dist/release/.work-XXXXXX)
  trap 'rm -rf "$work"' EXIT
  out=$work/out
  mkdir "$out"
  write_image
  write_binaries
  write_chart
  write_installer
  write_notes
  cp LICENSE "$out"
  (cd "$out" && sha256sum -- * >../SHA256SUMS && mv ../SHA256SUMS .)
  rm -rf "$target"
  mv "$out" "$target"
  echo "Release $VERSION of $IMAGE@$digest is in $target"
}

case ${1:-} in
  check | assemble) "$1" ;;
  *) sed -n '2,7p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
