package guides

import (
	"context"
	"testing"
)

// TestEachCommandOfTheFirstPages follows the pages for who begins, with the permissions that the page on security gives.
func TestEachCommandOfTheFirstPages(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), guideTimeout)
	defer cancel()
	security := readGuide(t, "security.md")
	g := start(ctx, t, permissionsIn(security))
	for _, page := range [][]block{readGuide(t, "first-stream.md"), security} {
		for _, b := range page {
			g.follow(ctx, b)
		}
	}
	g.checkPermissions()
}
