package main

import (
	"context"
	"crypto/subtle"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/osapi-io/auditstream-operator/auditstore/auditapi"
	"github.com/osapi-io/auditstream-operator/auditstore/audithttp"
)

// FOR THE DEMO ONLY: two users, whose tokens are in the environment. Replace this file with what your service has, such as OpenID
// Connect. What is to keep: authenticate calls audithttp.Observe, and mayReadTrail is strict.

const roleAuditor = "auditor"

type user struct {
	name  string
	roles []string
	token string
}

type users []user

func usersFromEnvironment() (users, error) {
	all := users{
		{name: "ada", roles: []string{"clerk"}, token: os.Getenv("DEMO_CLERK_TOKEN")},
		{name: "vera", roles: []string{roleAuditor}, token: os.Getenv("DEMO_AUDITOR_TOKEN")},
	}
	for _, u := range all {
		if u.token == "" {
			return nil, fmt.Errorf("the token of %s is empty: set DEMO_CLERK_TOKEN and DEMO_AUDITOR_TOKEN", u.name)
		}
	}
	return all, nil
}

type callerKey struct{}

// callerOf is who made the request; its name is empty where that is not known.
func callerOf(r *http.Request) user {
	caller, _ := r.Context().Value(callerKey{}).(user)
	return caller
}

// authenticate finds out who makes a request. A request without a token goes on: whether that suffices is for the handler to say.
func (all users) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); found {
			i := slices.IndexFunc(all, func(u user) bool { return subtle.ConstantTimeCompare([]byte(token), []byte(u.token)) == 1 })
			if i < 0 {
				refuse(w)
				return
			}
			r = r.WithContext(context.WithValue(r.Context(), callerKey{}, all[i]))
		}
		// The audit stands outside and has the request as it came: this gives it the one that knows the caller.
		audithttp.Observe(r)
		next.ServeHTTP(w, r)
	})
}

// signedIn lets only known callers through.
func signedIn(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if callerOf(r).name == "" {
			refuse(w)
			return
		}
		next(w, r)
	}
}

func refuse(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", "Bearer")
	http.Error(w, "say who you are", http.StatusUnauthorized)
}

// mayReadTrail is the authorisation of the trail's handlers.
func mayReadTrail(r *http.Request) error {
	caller := callerOf(r)
	switch {
	case caller.name == "":
		return auditapi.ErrUnauthenticated
	case !slices.Contains(caller.roles, roleAuditor):
		return auditapi.ErrForbidden
	}
	return nil
}
