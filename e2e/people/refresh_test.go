//go:build e2e && linux && amd64

package people

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// replay sends a refresh token as a thief does.
func (d *desk) replay(token string) (page string, status int) {
	d.t.Helper()
	resp, err := http.PostForm(d.front.realm.TokenURL, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}, "client_id": {usual}})
	page = d.body(resp, err)
	return page, resp.StatusCode
}

// refresh has twenty commands of one person begin at the same time, when the ID token must be refreshed, though
// Keycloak ends a login whose refresh token comes twice.
func refresh(t *testing.T, c *company) {
	d := sit(t, c, usual)
	d.approve()
	d.signedIn("ann")
	first := d.kept()
	for round := 1; round <= 2; round++ {
		d.forget()
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				if out, status := d.exec("true"); status != 0 {
					t.Errorf("exec %d: status %d\n%s", i, status, out)
				}
			})
		}
		all.Wait()
		if n := d.front.refreshes(t); n != round {
			t.Errorf("%d refreshes in round %d, want one a round", n, round)
		}
	}
	if next := d.kept(); next.Refresh == first.Refresh || next.ID == "" {
		t.Error("the refresh token was not rotated, or no ID token was kept")
	}
	d.forget()
	if out, status := d.exec("true"); status != 0 {
		t.Errorf("afterwards: status %d\n%s", status, out)
	}
}

// stolen is of a thief who has read a refresh token.
func stolen(t *testing.T, c *company) {
	for _, tt := range []struct {
		name  string
		steal func(d *desk) (theirs string)
	}{
		{"used before its owner uses it", func(d *desk) string {
			page, status := d.replay(d.kept().Refresh)
			if status != http.StatusOK {
				d.t.Errorf("the thief: %d\n%s", status, page)
			}
			_, theirs, _ := strings.Cut(page, `"refresh_token":"`)
			theirs, _, _ = strings.Cut(theirs, `"`)
			return theirs
		}},
		{"used after its owner has used it", func(d *desk) string {
			old := d.kept().Refresh
			d.forget()
			d.who()
			page, status := d.replay(old)
			if status != http.StatusBadRequest {
				d.t.Errorf("the thief: %d\n%s", status, page)
			}
			return old
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := sit(t, c, usual)
			d.approve()
			d.signedIn("ann")
			theirs := tt.steal(d)
			d.forget()
			for range 2 {
				out, status := d.exec("true")
				if status != 3 || !strings.Contains(out, `refresh the login of identity "engineers": "invalid_grant": `) ||
					!strings.Contains(out, "hint: sign in: oidc-dbt login engineers") {
					t.Errorf("its owner: status %d, want 3 and how to go on\n%s", status, out)
				}
			}
			if page, status := d.replay(theirs); status != http.StatusBadRequest {
				t.Errorf("the thief again: %d\n%s", status, page)
			}
			d.signedIn("ann")
			if out, status := d.exec("true"); status != 0 {
				t.Errorf("signed in again: status %d\n%s", status, out)
			}
		})
	}
}

// groups is of a person who comes into a group, and leaves it.
func groups(t *testing.T, c *company) {
	d := sit(t, c, usual)
	d.approve()
	d.signedIn("joe")
	subject, before := d.who()
	if out, status := d.exec("true"); status != 5 || fmt.Sprint(before) != "[interns]" {
		t.Errorf("an intern, of groups %q: status %d, want 5\n%s", before, status, out)
	}
	var found []struct{ ID string }
	c.realm.Administer(t, http.MethodGet, "groups?search=analysts&exact=true", nil, &found)
	place := "users/" + subject + "/groups/" + found[0].ID
	c.realm.Administer(t, http.MethodPut, place, nil, nil)
	d.forget()
	if out, status := d.exec("true"); status != 0 {
		t.Errorf("an analyst: status %d\n%s", status, out)
	}
	if after, groups := d.who(); after != subject || fmt.Sprint(groups) != "[analysts interns]" {
		t.Errorf("%s is in groups %q", after, groups)
	}
	c.realm.Administer(t, http.MethodDelete, place, nil, nil)
	d.forget()
	if out, status := d.exec("true"); status != 5 {
		t.Errorf("an intern again: status %d, want 5\n%s", status, out)
	}
}
