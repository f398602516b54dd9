// Command image makes a multi-arch container image of one static Linux binary, without a container engine and without a base
// image from a registry, and pushes what it made. The same inputs give the same digests, whenever and wherever it runs.
//
//	image build --out DIR --name NAME --version VERSION --created SECONDS --binary linux/amd64=FILE [--binary ...] ...
//	image push --layout DIR [--to NAME] [--tag TAG ...]
//	image sbom --version VERSION --revision COMMIT --created SECONDS --binary darwin/arm64=FILE >FILE
//
// Besides the binary, an image has what a static binary wants of a system: certificate authorities, time zones, a user
// nonroot (65532) and /tmp.
package main
