package metrics

import (
	"regexp"
	"slices"
	"strings"

	. "github.com/onsi/gomega"
)

// family is a metric as /metrics shows it: its type, its help text, and the labels of its series.
type family struct {
	kind, help string
	labels     []string
}

var (
	seriesLine = regexp.MustCompile(`^([a-z_]+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})? \S+$`)
	labelName  = regexp.MustCompile(`(?:^|,)([a-z_]+)="(?:[^"\\]|\\.)*"`)
)

// families are what the operator serves now.
func (j *journey) families() map[string]*family {
	j.Helper()
	status, text, err := scrape(j.Context(), j.metrics, j.reader)
	j.Expect(err).NotTo(HaveOccurred())
	j.Expect(status).To(Equal(200))
	families := map[string]*family{}
	of := func(name string) *family {
		if families[name] == nil {
			families[name] = &family{}
		}
		return families[name]
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
			name, help, _ := strings.Cut(rest, " ")
			of(name).help = help
		} else if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(rest, " ")
			of(name).kind = kind
		} else if match := seriesLine.FindStringSubmatch(line); match != nil {
			of(match[1]).note(match[2])
		}
	}
	return families
}

func (f *family) note(labels string) {
	for _, match := range labelName.FindAllStringSubmatch(labels, -1) {
		if !slices.Contains(f.labels, match[1]) && match[1] != "le" {
			f.labels = append(f.labels, match[1])
		}
	}
}

var (
	tableRow = regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([a-z]+) \\|(?: ([^|]*) \\|)? ([^|]+) \\|$|^\\| `([a-z_]+)` \\| ([a-z]+) \\| \\| ([^|]+) \\|$")
	inTicks  = regexp.MustCompile("`([a-z_]+)`")
)

// documented compares docs/metrics.md, and the queries of the dashboard, with what the operator serves.
func (j *journey) documented() {
	live, told := j.families(), map[string]bool{}
	for _, section := range strings.Split(string(read(j.T, "docs", "metrics.md")), "\n## ")[1:] {
		for _, row := range tableRow.FindAllStringSubmatch(section, -1) {
			name, kind := row[1]+row[5], row[2]+row[6]
			told[name] = true
			f := live[name]
			if f == nil {
				j.Errorf("docs/metrics.md tells of %s, which the operator does not serve", name)
				continue
			}
			j.Expect(f.kind).To(Equal(kind), name)
			if !strings.HasPrefix(name, "auditstream_") {
				continue
			}
			var labels []string
			for _, label := range inTicks.FindAllStringSubmatch(row[3], -1) {
				labels = append(labels, label[1])
			}
			if strings.HasPrefix(section, "AuditStreams\n") {
				labels = append(labels, "namespace", "name")
			}
			j.Expect(f.labels).To(ConsistOf(labels), name)
		}
	}
	for name, f := range live {
		if strings.HasPrefix(name, "auditstream_") {
			j.Expect(f.help).NotTo(BeEmpty(), name)
			j.Expect(told[name]).To(BeTrue(), "docs/metrics.md does not tell of %s", name)
		}
	}
	for title, queries := range panelQueries(j.T) {
		for _, query := range queries {
			names := metricsIn(query)
			j.Expect(names).NotTo(BeEmpty(), title)
			for _, name := range names {
				j.Expect(live[name]).NotTo(BeNil(), "panel %q asks for %s", title, name)
			}
		}
	}
}
