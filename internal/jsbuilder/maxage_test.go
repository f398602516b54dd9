package jsbuilder

import (
	"strings"
	"testing"
	"time"
)

func TestParseMaxAge(t *testing.T) {
	accepted := map[string]time.Duration{
		"":                         0,
		"720h":                     720 * time.Hour,
		"1h30m":                    90 * time.Minute,
		"1.5h":                     90 * time.Minute,
		"1h0m0s":                   time.Hour,
		"100ms":                    100 * time.Millisecond,
		"0.1s":                     100 * time.Millisecond,
		"100000us":                 100 * time.Millisecond,
		"99ms1000us":               100 * time.Millisecond,
		"100000000ns":              100 * time.Millisecond,
		"999999h":                  999999 * time.Hour,
		"999999h9999999m":          999999*time.Hour + 9999999*time.Minute,
		"1d":                       24 * time.Hour,
		"30d":                      720 * time.Hour,
		"007d":                     7 * 24 * time.Hour,
		"106580d":                  106580 * 24 * time.Hour,
		"4w":                       4 * 7 * 24 * time.Hour,
		"15225w":                   15225 * 7 * 24 * time.Hour,
		"7y":                       7 * 365 * 24 * time.Hour,
		"292y":                     292 * 365 * 24 * time.Hour,
		"0h0m0.100s":               100 * time.Millisecond,
		"000001.000000001h" + "1m": time.Hour + time.Minute + 3600*time.Nanosecond,
	}
	for value, want := range accepted {
		if got, err := ParseMaxAge(value); err != nil || got != want {
			t.Errorf("ParseMaxAge(%q) = %v, %v, want %v", value, got, err, want)
		}
	}

	refused := map[string]string{
		"1fortnight":                          "a whole number of days, weeks or years such as 30d",
		"5":                                   "a Go duration such as 720h",
		"h":                                   "a Go duration such as 720h",
		"-1h":                                 "a Go duration such as 720h",
		"+1h":                                 "a Go duration such as 720h",
		"1h1h":                                "a Go duration such as 720h",
		"1m1h":                                "a Go duration such as 720h",
		".5h":                                 "a Go duration such as 720h",
		"1e3h":                                "a Go duration such as 720h",
		"1d12h":                               "a Go duration such as 720h",
		"1.5d":                                "a Go duration such as 720h",
		"-1d":                                 "a Go duration such as 720h",
		" 1h":                                 "a Go duration such as 720h",
		"1h\n":                                "a Go duration such as 720h",
		"1000000h":                            "up to 999999h",
		"99999999999999999999d":               "a Go duration such as 720h",
		"0s":                                  "at least 100ms",
		"99ms":                                "at least 100ms",
		"0h0m0s":                              "at least 100ms",
		"0d":                                  "at least 1d",
		"0w":                                  "at least 1d",
		"0y":                                  "at least 1d",
		"300y":                                "at most 292y",
		"293y":                                "at most 292y",
		"106581d":                             "at most 292y",
		"999999d":                             "at most 292y",
		"15226w":                              "at most 292y",
		strings.Repeat("1", 999):              "a Go duration such as 720h",
		"1h" + strings.Repeat("0", 61) + "1m": "a Go duration such as 720h",
	}
	for value, want := range refused {
		got, err := ParseMaxAge(value)
		if err == nil || got != 0 {
			t.Errorf("ParseMaxAge(%q) = %v, %v, want it refused", value, got, err)
			continue
		}
		for _, part := range []string{"maxAge", want} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("ParseMaxAge(%q): the error %q does not say %q", value, err, part)
			}
		}
		if len(value) < 60 && !strings.Contains(err.Error(), strings.TrimSpace(value)) {
			t.Errorf("ParseMaxAge(%q): the error %q does not name the value", value, err)
		}
		if len(err.Error()) > 300 {
			t.Errorf("ParseMaxAge of %d characters: the error has %d", len(value), len(err.Error()))
		}
	}
}

func FuzzParseMaxAge(f *testing.F) {
	for _, seed := range []string{"", "30d", "4w", "7y", "720h", "1h30m", "1.5h", "100ms", "99ms", "0d", "300y", "1fortnight", "999999d"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseMaxAge(s)
		switch {
		case err != nil && got != 0:
			t.Errorf("ParseMaxAge(%q) = %v together with the error %v", s, got, err)
		case err == nil && s != "" && (got < shortestMaxAge || got > longestMaxAge):
			t.Errorf("ParseMaxAge(%q) = %v, which is out of range", s, got)
		case err == nil && s == "" && got != 0:
			t.Errorf("ParseMaxAge of nothing = %v", got)
		}
		if want, goErr := time.ParseDuration(s); err == nil && goErr == nil && want != got {
			t.Errorf("ParseMaxAge(%q) = %v, but as a Go duration it is %v", s, got, want)
		}
	})
}
