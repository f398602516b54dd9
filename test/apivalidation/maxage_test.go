package apivalidation

import (
	"fmt"
	"math/rand/v2"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
)

const (
	badMaxAge   = "maxAge must be a Go duration such as 720h or 1h30m (up to 999999h), or a whole number of days, weeks or years such as 30d, 4w or 7y"
	shortMaxAge = "maxAge must be at least 100ms, the shortest that NATS keeps a message; leave it out to keep entries for ever"
	rangeMaxAge = "maxAge must be at least 1d and at most 292y (106580d, 15225w); leave it out to keep entries for ever"
)

// Each value goes to the API server and to the parser that the operator uses: what one accepts the other must, too.
var _ = DescribeTable("maxAge", func(ctx SpecContext, value string, texts ...string) {
	if len(texts) > 0 {
		texts = append(texts, "spec.maxAge")
	}
	creation(ctx, fields{"maxAge": value}, texts...)
	age, err := jsbuilder.ParseMaxAge(value)
	Expect(err != nil).To(Equal(len(texts) > 0), "jsbuilder.ParseMaxAge: %v, %v", age, err)
},
	Entry(nil, "30d"),
	Entry(nil, "4w"),
	Entry(nil, "7y"),
	Entry(nil, "720h"),
	Entry(nil, "1h30m"),
	Entry(nil, "1.5h"),
	Entry(nil, "1h0m0s"),
	Entry(nil, "100ms"),
	Entry(nil, "0.1s"),
	Entry(nil, "100000us"),
	Entry(nil, "100000000ns"),
	Entry(nil, "99ms1000us"),
	Entry(nil, "999999h"),
	Entry(nil, "999999h9999999m999999999s"),
	Entry(nil, "1d"),
	Entry(nil, "007d"),
	Entry(nil, "292y"),
	Entry(nil, "15225w"),
	Entry(nil, "106580d"),
	Entry(nil, "1fortnight", badMaxAge),
	Entry(nil, "forever", badMaxAge),
	Entry(nil, "5", badMaxAge),
	Entry(nil, "h", badMaxAge),
	Entry(nil, "d", badMaxAge),
	Entry(nil, "-1h", badMaxAge),
	Entry(nil, "-30d", badMaxAge),
	Entry(nil, "+1h", badMaxAge),
	Entry(nil, "1d12h", badMaxAge),
	Entry(nil, "1.5d", badMaxAge),
	Entry(nil, "1m1h", badMaxAge),
	Entry(nil, "1h1h", badMaxAge),
	Entry(nil, ".5h", badMaxAge),
	Entry(nil, "1H", badMaxAge),
	Entry(nil, "30D", badMaxAge),
	Entry(nil, "30 d", badMaxAge),
	Entry(nil, "30d\n", badMaxAge),
	Entry(nil, "1000000h", badMaxAge),
	Entry(nil, "1000000d", badMaxAge),
	Entry(nil, "99999999999999999999h", badMaxAge),
	Entry(nil, "99999999999999999999d", badMaxAge),
	Entry(nil, "1µs", badMaxAge),
	Entry(nil, "0s", shortMaxAge),
	Entry(nil, "0h", shortMaxAge),
	Entry(nil, "99ms", shortMaxAge),
	Entry(nil, "0.099999999s", shortMaxAge),
	Entry(nil, "99999999ns", shortMaxAge),
	Entry(nil, "0d", rangeMaxAge),
	Entry(nil, "0w", rangeMaxAge),
	Entry(nil, "0y", rangeMaxAge),
	Entry(nil, "300y", rangeMaxAge),
	Entry(nil, "293y", rangeMaxAge),
	Entry(nil, "106581d", rangeMaxAge),
	Entry(nil, "999999d", rangeMaxAge),
	Entry(nil, "15226w", rangeMaxAge),
	Entry("longer than 64", "1h"+strings.Repeat("0", 61)+"1m", "may not be more than 64"),
)

// Absent is for ever, to the parser as well. Present and empty is more likely a template that went wrong.
var _ = It("refuses an empty maxAge", func(ctx SpecContext) {
	creation(ctx, fields{"maxAge": ""}, "spec.maxAge", "should be at least 1 chars long")
})

var _ = It("agrees with the operator's parser on any text", func(ctx SpecContext) {
	random := rand.New(rand.NewPCG(uint64(GinkgoRandomSeed()), 0)) // #nosec G404 -- a test that can be repeated
	var accepted int
	for range 400 {
		value := randomAge(random)
		err := apply(ctx, manifest("any", minimal(fields{"maxAge": value})), client.DryRunAll)
		age, parseErr := jsbuilder.ParseMaxAge(value)
		Expect(err == nil).To(Equal(parseErr == nil), "maxAge %q: the API server says %v, the parser %v, %v", value, err, age, parseErr)
		if err == nil {
			accepted++
		}
	}
	Expect(accepted).To(And(BeNumerically(">", 40), BeNumerically("<", 360)), "of 400 texts")
})

func randomAge(random *rand.Rand) string {
	units := []string{"h", "m", "s", "ms", "us", "ns", "d", "w", "y", "h", "d"}
	limits := []int{2, 1_000, 2_000, 20_000, 120_000, 2_000_000}
	var value strings.Builder
	for range 1 + random.IntN(10)/7 {
		fmt.Fprint(&value, random.IntN(limits[random.IntN(len(limits))]))
		if random.IntN(8) == 0 {
			value.WriteString("." + fmt.Sprint(random.IntN(1_000)))
		}
		value.WriteString(units[random.IntN(len(units))])
	}
	return value.String()
}
