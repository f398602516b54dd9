package auditapi

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/osapi-io/auditstream-operator/auditstore"
)

// page is the body that answers GET /audit.
type page struct {
	TotalItems int                `json:"total_items"`
	Items      []auditstore.Entry `json:"items"`
	Corrupt    []corrupt          `json:"corrupt,omitempty"`
}

// corrupt names a message that is not a readable entry.
type corrupt struct {
	Sequence uint64 `json:"sequence"`
}

// found is the body that answers GET /audit/{id}.
type found struct {
	Entry *auditstore.Entry `json:"entry"`
}

func (h *Handler) list(w http.ResponseWriter, r *http.Request) error {
	limit, offset, err := window(r.URL)
	if err != nil {
		return err
	}
	entries, total, err := h.cfg.Store.List(r.Context(), limit, offset)
	damaged, whole := corruptIn(err)
	if !whole {
		return err
	}
	if len(damaged) > 0 {
		h.log(r, "Found corrupt messages in the audit trail", err)
	}
	if entries == nil {
		entries = []auditstore.Entry{} // items is an array, also where it is empty
	}
	return h.send(w, r, http.StatusOK, page{TotalItems: total, Items: entries, Corrupt: damaged})
}

func (h *Handler) get(w http.ResponseWriter, r *http.Request) error {
	entry, err := h.cfg.Store.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	if entry == nil {
		return errors.New("the store returned neither an entry nor an error")
	}
	return h.send(w, r, http.StatusOK, found{Entry: entry})
}

// window reads limit and offset. A limit that is too high is refused and not lowered: a client that asks for 1000 entries and
// gets 100 may well take them for all.
func window(u *url.URL) (limit, offset int, err error) {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return 0, 0, failure{http.StatusBadRequest, "the query of the URL is malformed"}
	}
	if limit, err = number(query, "limit", DefaultLimit); err != nil || limit < 1 || limit > MaxLimit {
		return 0, 0, failure{http.StatusBadRequest, fmt.Sprintf("limit is %.64q: give one whole number from 1 to %d",
			query["limit"], MaxLimit)}
	}
	if offset, err = number(query, "offset", 0); err != nil {
		return 0, 0, failure{http.StatusBadRequest, fmt.Sprintf("offset is %.64q: give one whole number, 0 or more", query["offset"])}
	}
	return limit, offset, nil
}

var errNotOne = errors.New("given more than once")

func number(query url.Values, name string, otherwise int) (int, error) {
	values := query[name]
	switch len(values) {
	case 0:
		return otherwise, nil
	case 1:
		n, err := strconv.ParseUint(values[0], 10, strconv.IntSize-1)
		return int(n), err
	}
	return 0, errNotOne
}

// corruptIn returns the corrupt messages that the error names, and whether what came with it is complete but for them. That is so
// for no error at all, and for one that names corrupt messages and nothing else: whatever else is joined to them may have cost
// entries that nobody names.
func corruptIn(err error) (damaged []corrupt, whole bool) {
	if err == nil {
		return nil, true
	}
	if errors.Is(err, auditstore.ErrNotReady) || errors.Is(err, auditstore.ErrIncomplete) {
		return nil, false
	}
	return named(err)
}

// named walks the tree of the error: errors.As would find the first corrupt message only. It says whether every leaf is one.
func named(err error) (all []corrupt, only bool) {
	switch e := err.(type) { //nolint:errorlint // it does the unwrapping itself
	case *auditstore.CorruptError:
		return []corrupt{{Sequence: e.Sequence}}, true
	case interface{ Unwrap() error }:
		return named(e.Unwrap())
	case interface{ Unwrap() []error }:
		only = true
		for _, branch := range e.Unwrap() {
			damaged, whole := named(branch)
			all, only = append(all, damaged...), only && whole
		}
		return all, only && len(all) > 0
	}
	return nil, false
}
