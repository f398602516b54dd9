package image

import (
	"bytes"
	"crypto/x509"
	"debug/buildinfo"
	"debug/elf"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func wantLabels() map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":       project,
		"org.opencontainers.image.description": "Audit streams on NATS JetStream as a Kubernetes resource",
		"org.opencontainers.image.source":      "https://github.com/osapi-io/auditstream-operator",
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.version":     version,
		"org.opencontainers.image.revision":    revision,
		"org.opencontainers.image.created":     createdTime,
	}
}

func operatorLayout(t *testing.T) ociLayout {
	t.Helper()
	return ociLayout{dir: filepath.Join(mustBuild(t, firstBuild).image(), "oci")}
}

func TestIndex(t *testing.T) {
	layout := operatorLayout(t)
	tagged := layout.index(t).Manifests[0]
	if got := tagged.Annotations["io.containerd.image.name"]; got != imageName+":"+version {
		t.Errorf("the image is called %q", got)
	}
	if got := layout.manifest(t, tagged).Annotations; !maps.Equal(got, wantLabels()) {
		t.Errorf("the index has the annotations %v, want %v", got, wantLabels())
	}
	recorded, err := os.ReadFile(filepath.Join(filepath.Dir(layout.dir), "digest"))
	if err != nil || strings.TrimSpace(string(recorded)) != tagged.Digest {
		t.Errorf("the file digest says %q (%v), the index is %s", recorded, err, tagged.Digest)
	}
	var got []string
	for _, image := range layout.images(t) {
		got = append(got, image.Platform.String())
	}
	if !slices.Equal(got, platforms) {
		t.Errorf("the image is for %v, want %v", got, platforms)
	}
}

func TestConfig(t *testing.T) {
	layout := operatorLayout(t)
	for _, image := range layout.images(t) {
		manifest := layout.manifest(t, image)
		config := decode[imageConfig](t, layout.blob(t, manifest.Config))
		if config.platform != image.Platform {
			t.Errorf("the config of %s is for %s", image.Platform, config.platform)
		}
		if config.Config.User != "65532:65532" || !slices.Equal(config.Config.Entrypoint, []string{"/manager"}) {
			t.Errorf("%s runs %v as %q", image.Platform, config.Config.Entrypoint, config.Config.User)
		}
		if !maps.Equal(config.Config.Labels, wantLabels()) || !maps.Equal(manifest.Annotations, wantLabels()) {
			t.Errorf("%s has the labels %v and the annotations %v, want %v of both",
				image.Platform, config.Config.Labels, manifest.Annotations, wantLabels())
		}
		if config.Created != createdTime {
			t.Errorf("%s was created at %s, want the commit's time", image.Platform, config.Created)
		}
		var diffIDs []string
		for _, layer := range manifest.Layers {
			_, diffID := layout.files(t, layer)
			diffIDs = append(diffIDs, diffID)
		}
		if !slices.Equal(diffIDs, config.RootFS.DiffIDs) {
			t.Errorf("%s has the layers %v, its config says %v", image.Platform, diffIDs, config.RootFS.DiffIDs)
		}
	}
}

func TestBaseFiles(t *testing.T) {
	layout := operatorLayout(t)
	base := layout.manifest(t, layout.images(t)[0]).Layers[0]
	files, _ := layout.files(t, base)

	roots := x509.NewCertPool()
	bundle := files["etc/ssl/certs/ca-certificates.crt"].content
	if !roots.AppendCertsFromPEM(bundle) || bytes.Count(bundle, []byte("BEGIN CERTIFICATE")) < 50 {
		t.Errorf("the bundle of certificate authorities has %d bytes and is not usable", len(bundle))
	}
	berlin, err := time.LoadLocationFromTZData("Europe/Berlin", files["usr/share/zoneinfo/Europe/Berlin"].content)
	if err != nil {
		t.Errorf("the time zone of Berlin: %v", err)
	} else if _, offset := time.Date(2026, 7, 1, 0, 0, 0, 0, berlin).Zone(); offset != 2*60*60 {
		t.Errorf("Berlin is %d s off in summer", offset)
	}
	if passwd := string(files["etc/passwd"].content); !strings.Contains(passwd, "\nnonroot:x:65532:65532:") {
		t.Errorf("/etc/passwd has no nonroot: %q", passwd)
	}
	if tmp := files["tmp/"]; tmp.Header == nil || tmp.Mode != 0o1777 {
		t.Errorf("/tmp is %+v", tmp.Header)
	}
	if home := files["home/nonroot/"]; home.Header == nil || home.Uid != 65532 || home.Mode != 0o700 {
		t.Errorf("/home/nonroot is %+v", home.Header)
	}
	for _, image := range layout.images(t) {
		if other := layout.manifest(t, image).Layers[0]; other.Digest != base.Digest {
			t.Errorf("%s has another base, %s", image.Platform, other.Digest)
		}
	}
}

func TestProgram(t *testing.T) {
	layout := operatorLayout(t)
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	for _, image := range layout.images(t) {
		files, _ := layout.files(t, layout.manifest(t, image).Layers[1])
		program, found := files["manager"]
		if len(files) != 1 || !found || program.Mode != 0o555 || program.Uid != 0 {
			t.Fatalf("the second layer of %s is not /manager alone, root's and not writable: %v", image.Platform, slices.Collect(maps.Keys(files)))
		}
		binary, err := elf.NewFile(bytes.NewReader(program.content))
		if err != nil {
			t.Fatal(err)
		}
		if binary.Machine != machines[image.Platform.Architecture] {
			t.Errorf("the program for %s is for %s", image.Platform, binary.Machine)
		}
		if libraries, err := binary.ImportedLibraries(); err != nil || len(libraries) > 0 || binary.Section(".interp") != nil {
			t.Errorf("the program for %s is not static: %v %v", image.Platform, libraries, err)
		}
		if image.Platform.String() == runtime.GOOS+"/"+runtime.GOARCH {
			checkVersion(t, program.content)
		}
	}
}

func checkVersion(t *testing.T, program []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "manager")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path, "--version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), project+" "+version+" (revision "+revision+", ") {
		t.Errorf("manager --version says %q, %v", out, err)
	}
}

// TestSBOM compares the SBOM of each platform, found as registries find it, with what the program itself says.
func TestSBOM(t *testing.T) {
	layout := operatorLayout(t)
	for _, image := range layout.images(t) {
		var found []descriptor
		for _, d := range layout.index(t).Manifests {
			if d.ArtifactType == sbomType && layout.manifest(t, d).Subject.Digest == image.Digest {
				found = append(found, d)
			}
		}
		if len(found) != 1 {
			t.Fatalf("%s has %d SBOMs that refer to it, want 1", image.Platform, len(found))
		}
		attached := layout.manifest(t, found[0])
		if attached.ArtifactType != sbomType || attached.Subject.Size != image.Size || len(attached.Layers) != 1 {
			t.Fatalf("the SBOM of %s is attached as %+v", image.Platform, attached)
		}
		raw := layout.blob(t, attached.Layers[0])
		file, err := os.ReadFile(filepath.Join(filepath.Dir(layout.dir), project+"-linux-"+image.Platform.Architecture+".cdx.json"))
		if err != nil || !bytes.Equal(file, raw) {
			t.Errorf("the SBOM of %s as a file is another one than that attached (%v)", image.Platform, err)
		}
		files, _ := layout.files(t, layout.manifest(t, image).Layers[1])
		checkSBOM(t, raw, files["manager"].content)
	}
}

type sbom struct {
	BOMFormat string
	Metadata  struct {
		Timestamp string
		Component struct {
			Name, Version string
			Hashes        []struct{ Alg, Content string }
		}
	}
	Components []struct{ Name, Version, PURL string }
}

func checkSBOM(t *testing.T, raw, program []byte) {
	t.Helper()
	bom := decode[sbom](t, raw)
	main := bom.Metadata.Component
	if bom.BOMFormat != "CycloneDX" || bom.Metadata.Timestamp != createdTime || main.Version != version {
		t.Errorf("the SBOM is %s of %s at %s", bom.BOMFormat, main.Version, bom.Metadata.Timestamp)
	}
	if len(main.Hashes) != 1 || "sha256:"+main.Hashes[0].Content != digestOf(program) {
		t.Errorf("the SBOM is of a program with the hashes %v, which is not the one in the image", main.Hashes)
	}
	info, err := buildinfo.Read(bytes.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"pkg:golang/std@v" + strings.TrimPrefix(info.GoVersion, "go")}
	for _, module := range info.Deps {
		want = append(want, "pkg:golang/"+module.Path+"@"+strings.ReplaceAll(module.Version, "+", "%2B"))
	}
	var got []string
	for _, component := range bom.Components {
		got = append(got, component.PURL)
	}
	if len(want) < 20 || !slices.Equal(got, want) {
		t.Errorf("the SBOM lists\n%v\nthe program was linked from\n%v", got, want)
	}
}

// TestArchives is about what ctr, docker load and podman load take.
func TestArchives(t *testing.T) {
	layout := operatorLayout(t)
	for _, image := range layout.images(t) {
		raw, err := os.ReadFile(filepath.Join(filepath.Dir(layout.dir), project+"-linux-"+image.Platform.Architecture+".tar"))
		if err != nil {
			t.Fatal(err)
		}
		files := untar(t, raw)
		index := decode[manifest](t, files["index.json"].content)
		if len(index.Manifests) != 1 || index.Manifests[0].Digest != image.Digest ||
			index.Manifests[0].Annotations["io.containerd.image.name"] != imageName+":"+version {
			t.Errorf("the archive of %s has the images %+v", image.Platform, index.Manifests)
		}
		docker := decode[[]struct {
			Config           string
			RepoTags, Layers []string
		}](t, files["manifest.json"].content)
		if len(docker) != 1 || !slices.Equal(docker[0].RepoTags, []string{imageName + ":" + version}) || len(docker[0].Layers) != 2 {
			t.Fatalf("Docker finds %+v in the archive of %s", docker, image.Platform)
		}
		for _, name := range append([]string{docker[0].Config}, docker[0].Layers...) {
			blob, found := files[name]
			if !found || "blobs/"+strings.Replace(digestOf(blob.content), ":", "/", 1) != name {
				t.Errorf("%s in the archive of %s is missing or not what its name says", name, image.Platform)
			}
		}
	}
}
