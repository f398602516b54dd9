package auditstore

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// marker is the secret of all tests here. It must turn up in no error and no log line.
const marker = "s3cr3t-marker"

// keys are the content of a binding.
type keys map[string]string

func (k keys) with(more keys) keys {
	all := keys{}
	for _, from := range []keys{k, more} {
		maps.Copy(all, from)
	}
	return all
}

// writeKeys writes a binding the way a hand does, and returns its directory.
func writeKeys(t *testing.T, dir string, k keys) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for key, value := range k {
		if err := os.WriteFile(filepath.Join(dir, key), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var plainKeys = keys{"type": "auditstream\n", "uri": "nats://nats:4222\n", "stream": "AUDIT\n", "subject": "audit.api\r\n"}

// clearEnvironment keeps what the machine has set out of a test.
func clearEnvironment(t *testing.T) {
	t.Helper()
	t.Setenv(bindingRoot, "")
	for _, v := range bindingVariables {
		t.Setenv(v.name, "")
	}
}

func testCreds(t *testing.T) string {
	t.Helper()
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	return credsFile(t, jwt.NewUserClaims(publicKey(t, user)), user, account)
}

func publicKey(t *testing.T, pair nkeys.KeyPair) string {
	t.Helper()
	key, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func credsFile(t *testing.T, claims *jwt.UserClaims, user, account nkeys.KeyPair) string {
	t.Helper()
	token, err := claims.Encode(account)
	if err != nil {
		t.Fatal(err)
	}
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	content, err := jwt.FormatUserConfig(token, seed)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestBindingIsRead(t *testing.T) {
	b, err := directoryBinding(writeKeys(t, t.TempDir(), plainKeys.with(keys{
		"uri": "nats://ada:" + marker + "@a, tls://ada:" + marker + "@b:4333,ada:" + marker + "@a:4222\n", "domain": "hub\n", "provider": "acme",
	})))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.check(); err != nil {
		t.Fatal(err)
	}
	got, err := b.target()
	want := bindingTarget{servers: []serverURL{{"nats", "a:4222"}, {"tls", "b:4333"}}, stream: "AUDIT", subject: "audit.api", domain: "hub"}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("the binding leads to %v, %v", got, err)
	}
	id, err := b.identity()
	if err != nil || id.user != "ada" || id.password != marker {
		t.Errorf("the user is %q, %v", id.user, err)
	}
}

func TestSecretsLoseNothingButTheirNewline(t *testing.T) {
	for name, k := range map[string]keys{
		"password": {"username": "ada\n", "password": " " + marker + " \r\n"},
		"token":    {"token": " " + marker + " \n"},
	} {
		b, err := directoryBinding(writeKeys(t, t.TempDir(), plainKeys.with(k)))
		if err != nil {
			t.Fatal(err)
		}
		id, err := b.identity()
		if want := " " + marker + " "; err != nil || id.password+id.token != want {
			t.Errorf("the %s is %q, %v; want %q", name, id.password+id.token, err, want)
		}
	}
}

// TestBindingErrors looks for what each message names. Every binding is plainKeys with one thing changed; <dir> is its directory.
func TestBindingErrors(t *testing.T) {
	creds := testCreds(t)
	for name, c := range map[string]struct {
		change keys
		remove []string
		want   []string
	}{
		"keys missing":       {remove: []string{"uri", "subject"}, want: []string{"lacks <dir>/uri and <dir>/subject"}},
		"type of others":     {change: keys{"type": "postgresql"}, want: []string{"<dir>/type", `"postgresql"`, `"auditstream" or "nats"`}},
		"empty type":         {change: keys{"type": "\n"}, want: []string{"<dir>/type is empty"}},
		"empty uri":          {change: keys{"uri": " \n"}, want: []string{"<dir>/uri is empty"}},
		"no uri in it":       {change: keys{"uri": " , "}, want: []string{"<dir>/uri holds no URL"}},
		"scheme":             {change: keys{"uri": "nats://a,http://b"}, want: []string{"<dir>/uri", "URL 2 of 2", "scheme", "nats://"}},
		"not a URL":          {change: keys{"uri": "nats://ada:" + marker + "%@a"}, want: []string{"<dir>/uri", "percent-encoded"}},
		"slash in password":  {change: keys{"uri": "nats://ada:12/" + marker + "@a"}, want: []string{"<dir>/uri", "more than scheme, host and port"}},
		"comma in password":  {change: keys{"uri": "nats://ada:12," + marker + "@a"}, want: []string{"<dir>/uri", "%2C"}},
		"unlike users":       {change: keys{"uri": "nats://ada:x@a,nats://eve:" + marker + "@b"}, want: []string{"<dir>/uri", "different credentials"}},
		"no host":            {change: keys{"uri": "nats://:4222"}, want: []string{"<dir>/uri", "no host"}},
		"WebSocket and not":  {change: keys{"uri": "nats://a,ws://b"}, want: []string{"<dir>/uri", "WebSocket"}},
		"stream":             {change: keys{"stream": "AU.DIT"}, want: []string{"<dir>/stream", `"AU.DIT"`, "without dots"}},
		"subject":            {change: keys{"subject": "audit.>"}, want: []string{"<dir>/subject", `"audit.>"`, "without wildcards"}},
		"domain":             {change: keys{"domain": "a.b"}, want: []string{"<dir>/domain", `"a.b"`, "one subject token"}},
		"two ways":           {change: keys{"token": marker, "credentials": creds}, want: []string{"<dir>/credentials and <dir>/token contradict"}},
		"user twice":         {change: keys{"token": marker, "uri": "ada:" + marker + "@a"}, want: []string{"<dir>/uri (its user) and <dir>/token contradict"}},
		"password alone":     {change: keys{"password": marker}, want: []string{"<dir>/username and <dir>/password belong together"}},
		"username alone":     {change: keys{"username": "ada"}, want: []string{"<dir>/username and <dir>/password belong together"}},
		"empty token":        {change: keys{"token": "\n"}, want: []string{"<dir>/token is empty"}},
		"credentials":        {change: keys{"credentials": marker}, want: []string{"<dir>/credentials", "nsc generate creds"}},
		"credentials halved": {change: keys{"credentials": creds[:strings.Index(creds, "-----BEGIN USER")]}, want: []string{"<dir>/credentials", "seed"}},
		"seed only":          {change: keys{"credentials": creds[strings.Index(creds, "-----BEGIN USER"):]}, want: []string{"<dir>/credentials", "JWT"}},
		"CA":                 {change: keys{"ca.crt": marker}, want: []string{"<dir>/ca.crt", "no PEM certificate"}},
		"certificate alone":  {change: keys{"tls.crt": marker}, want: []string{"<dir>/tls.crt and <dir>/tls.key belong together"}},
		"certificate":        {change: keys{"tls.crt": marker, "tls.key": marker}, want: []string{"<dir>/tls.crt and <dir>/tls.key are not a certificate"}},
		"several faults":     {change: keys{"uri": "x://a", "ca.crt": marker}, remove: []string{"stream"}, want: []string{"<dir>/uri", "<dir>/ca.crt", "<dir>/stream"}},
	} {
		t.Run(name, func(t *testing.T) {
			all := plainKeys.with(c.change)
			for _, key := range c.remove {
				delete(all, key)
			}
			dir := writeKeys(t, t.TempDir(), all)
			wantRefused(t, c.want, dir, FromDirectory(dir))
		})
	}
}

// wantRefused asserts that Open refuses its configuration in words that say what is wrong.
func wantRefused(t *testing.T, words []string, dir string, options ...OpenOption) {
	t.Helper()
	client, err := Open(t.Context(), options...)
	if client != nil {
		_ = client.Close()
	}
	wantIs(t, err, ErrInvalidConfig)
	text := fmt.Sprint(err)
	for _, word := range words {
		if word = strings.ReplaceAll(word, "<dir>", dir); !strings.Contains(text, word) {
			t.Errorf("the error %q does not say %q", text, word)
		}
	}
	if strings.Contains(text, marker) {
		t.Errorf("the error holds a secret: %v", err)
	}
}

func TestFilesThatAreNone(t *testing.T) {
	for name, c := range map[string]struct {
		put  func(path string) error
		want string
	}{
		"directory":     {func(path string) error { return os.Mkdir(path, 0o700) }, "<dir>/token is a directory"},
		"dangling link": {func(path string) error { return os.Symlink("..gone/token", path) }, "<dir>/token does not exist"},
		"link to self":  {func(path string) error { return os.Symlink(path, path) }, "<dir>/token cannot be read"},
		"pipe":          {func(path string) error { return syscall.Mkfifo(path, 0o600) }, "<dir>/token is not a regular file"},
		"huge":          {func(path string) error { return os.WriteFile(path, make([]byte, maxKeySize+1), 0o600) }, "<dir>/token is not a regular file"},
		"not ours":      {func(path string) error { return os.WriteFile(path, []byte(marker), 0) }, "<dir>/token cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "not ours" && os.Getuid() == 0 {
				t.Skip("root can read everything")
			}
			dir := writeKeys(t, t.TempDir(), plainKeys)
			if err := c.put(filepath.Join(dir, "token")); err != nil {
				t.Fatal(err)
			}
			wantRefused(t, []string{c.want}, dir, FromDirectory(dir))
		})
	}
}

func TestNoBindingThere(t *testing.T) {
	clearEnvironment(t)
	wantRefused(t, []string{"SERVICE_BINDING_ROOT", "$AUDITSTORE_URI", "FromDirectory"}, "")
	wantRefused(t, []string{"$SERVICE_BINDING_ROOT is not set"}, "", FromBinding("audit"))
	wantRefused(t, []string{"lacks $AUDITSTORE_URI and $AUDITSTORE_STREAM and $AUDITSTORE_SUBJECT"}, "", FromEnvironment())
	gone := filepath.Join(t.TempDir(), "gone")
	wantRefused(t, []string{gone, "mount the binding"}, "", FromDirectory(gone))
	file := filepath.Join(writeKeys(t, t.TempDir(), plainKeys), "uri")
	wantRefused(t, []string{file + " is not a directory"}, "", FromDirectory(file))
	t.Setenv(bindingRoot, gone)
	wantRefused(t, []string{"$SERVICE_BINDING_ROOT", gone}, "")
	for _, name := range []string{"..", "../x", "a/b", "."} {
		wantRefused(t, []string{fmt.Sprintf("%q", name), "without slashes"}, "", FromBinding(name))
	}
}

func TestBindingIsFoundInTheRoot(t *testing.T) {
	clearEnvironment(t)
	root := t.TempDir()
	t.Setenv(bindingRoot, root)
	put := func(name string, k keys) { writeKeys(t, filepath.Join(root, name), k) }
	put("db", keys{"type": "postgresql", "uri": "postgres://x", "stream": "x"})
	put("broker", keys{"type": "nats", "uri": "nats://x"})
	put("..version", plainKeys)
	if err := os.WriteFile(filepath.Join(root, "README"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := anyBinding()
	if err == nil || !strings.Contains(err.Error(), `["broker" "db"]`) {
		t.Errorf("the error does not say what is there: %v", err)
	}
	for _, c := range []struct{ name, kind string }{{"one", "auditstream"}, {"two", "nats"}, {"three", ""}} {
		k := plainKeys.with(keys{"type": c.kind})
		if c.kind == "" {
			delete(k, "type")
		}
		put(c.name, k)
		b, err := anyBinding()
		if err != nil || b.name != "the binding "+filepath.Join(root, c.name) {
			t.Errorf("found %v, %v; want %s", b, err, c.name)
		}
		if b, err := rootBinding(c.name); err != nil || b.check() != nil {
			t.Errorf("%s cannot be opened by its name: %v", c.name, err)
		}
		if err := os.Rename(filepath.Join(root, c.name), filepath.Join(root, "..old-"+c.name)); err != nil {
			t.Fatal(err)
		}
	}
	put("one", plainKeys)
	put("two", keys{"type": "auditstream"}) // also where something is wrong with it
	wantRefused(t, []string{root, `["one" "two"]`, "FromBinding"}, "")
}

func TestEnvironmentComesBeforeTheRoot(t *testing.T) {
	clearEnvironment(t)
	root := t.TempDir()
	t.Setenv(bindingRoot, root)
	writeKeys(t, filepath.Join(root, "audit"), plainKeys)
	t.Setenv("AUDITSTORE_STREAM", "OTHER")
	// Nothing of the binding fills what the environment lacks.
	wantRefused(t, []string{"the environment", "lacks $AUDITSTORE_URI and $AUDITSTORE_SUBJECT"}, "")
}

func TestEnvironmentNamesFiles(t *testing.T) {
	clearEnvironment(t)
	dir := writeKeys(t, t.TempDir(), keys{"pw": marker + "\n", "empty": "\n"})
	set := func(k keys) {
		for name, value := range k {
			t.Setenv("AUDITSTORE_"+name, value)
		}
	}
	set(keys{"URI": "nats://a", "STREAM": "AUDIT", "SUBJECT": "audit", "DOMAIN": "hub", "USERNAME": "ada", "PASSWORD_FILE": filepath.Join(dir, "pw")})
	b, err := anyBinding()
	if err != nil || b.check() != nil {
		t.Fatal(err, b.check())
	}
	if id, err := b.identity(); err != nil || id.user != "ada" || id.password != marker {
		t.Errorf("the user is %q, %v", id.user, err)
	}
	set(keys{"PASSWORD_FILE": filepath.Join(dir, "gone"), "CA": filepath.Join(dir, "empty")})
	wantRefused(t, []string{"the file that $AUDITSTORE_PASSWORD_FILE names does not exist", "$AUDITSTORE_CA (<dir>/empty) is empty"}, dir)
	set(keys{"PASSWORD_FILE": "", "USERNAME": "", "CA": "", "URI": "ada:" + marker + "@a,b"})
	wantRefused(t, []string{"$AUDITSTORE_URI has servers with different credentials"}, "")
}

// TestSecretInPlaceOfAPath: the secret itself, where the path of its file belongs, is in no error.
func TestSecretInPlaceOfAPath(t *testing.T) {
	for name, secret := range map[string]string{
		"no such file":         marker,
		"no such directory":    "/" + marker + "/" + marker,
		"too long for a path":  marker + strings.Repeat("x", 5000),
		"credentials, as such": "-----BEGIN NATS USER JWT-----\n" + marker + "\n------END NATS USER JWT------" + strings.Repeat("x", 300),
	} {
		for _, variable := range []string{"CREDENTIALS", "PASSWORD_FILE", "TOKEN_FILE", "CA", "CERT", "KEY"} {
			t.Run(name+", "+variable, func(t *testing.T) {
				clearEnvironment(t)
				for key, value := range (keys{"URI": "nats://127.0.0.1:1", "STREAM": "AUDIT", "SUBJECT": "audit", variable: secret}) {
					t.Setenv("AUDITSTORE_"+key, value)
				}
				if variable == "PASSWORD_FILE" {
					t.Setenv("AUDITSTORE_USERNAME", "ada")
				}
				wantRefused(t, []string{"the file that $AUDITSTORE_" + variable + " names "}, "")
				b, err := anyBinding()
				if err != nil {
					t.Fatal(err)
				}
				if remedy := (&link{binding: b}).remedy(); strings.Contains(remedy, marker) {
					t.Errorf("the remedy holds a secret: %s", remedy)
				}
			})
		}
	}
}

// TestEveryKeyIsDocumented keeps the table in Open's comment and the keys together.
func TestEveryKeyIsDocumented(t *testing.T) {
	source, err := os.ReadFile("open.go")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(source)) {
		if row, ok := strings.CutPrefix(line, "//\t"); ok {
			lines = append(lines, strings.Join(strings.Fields(row)[:2], " "))
		}
	}
	want := []string{"type -"}
	for key, v := range bindingVariables {
		want = append(want, key+" $"+v.name)
	}
	slices.Sort(want)
	if slices.Sort(lines); !slices.Equal(lines, want) {
		t.Errorf("the table has %q, want %q", lines, want)
	}
}
