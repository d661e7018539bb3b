package adapter_test

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// TestPlaceholders: for every pair the profile has the keys and variables that
// it has with a credential, or with a broker where it must be that, whose kind
// is the same.
func TestPlaceholders(t *testing.T) {
	t.Parallel()
	i := issuer(t)
	for dbtType, spec := range adapter.Specs() {
		for _, name := range spec.Providers {
			t.Run(dbtType+"_"+name, func(t *testing.T) {
				t.Parallel()
				p, err := parse(i.URL(), standin.PairBlock(dbtType, name), standin.Exchange(dbtType, name))
				if err != nil {
					t.Fatal(err)
				}
				target, err := p.Target("prod")
				if err != nil {
					t.Fatal(err)
				}
				o := target.Outline()
				block := o.DBT().Block
				c, served, err := adapter.Placeholder(dbtType, o, block)
				if err != nil {
					t.Fatal(err)
				}
				real := standin.Credential(dbtType, name)
				r, err := adapter.Route(dbtType, name, o.Exchange(), block)
				if err != nil {
					t.Fatal(err)
				}
				address := route.Address{}
				if r.Only {
					address = standin.Address()
				}
				got := shape(t, adapter.Input{Facts: o, Type: dbtType, Block: block, Credential: c, Route: served})
				want := shape(t, adapter.Input{Facts: grant(t, i, standin.PairBlock(dbtType, name), standin.Exchange(dbtType, name)), Type: dbtType, Block: block, Credential: real, Route: address})
				if got != want {
					t.Errorf("the profile has\n%s\nwant\n%s", got, want)
				}
				if !r.Only && c.Kind != real.Kind {
					t.Errorf("kind is %q, want %q", c.Kind, real.Kind)
				}
				for _, v := range c.Secrets() {
					if text := v.Reveal(); text != "oidc-dbt-placeholder" && v != c.PrivateKey {
						t.Errorf("a placeholder is %q", text)
					}
				}
				checkKey(t, c)
				if c.Expiry != credential.Never() {
					t.Errorf("it expires %s", c.Expiry)
				}
			})
		}
	}
}

// shape lists the names that an output has.
func shape(t *testing.T, in adapter.Input) string {
	t.Helper()
	out, err := adapter.Render(in)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, k := range out.Keys {
		if k.Name != "query_tags" && k.Name != "client_tags" {
			names = append(names, k.Name)
		}
	}
	for _, v := range out.Env {
		names = append(names, "$"+v.Name)
	}
	return fmt.Sprint(strings.Join(names, " "), " without ", out.Remove)
}

// checkKey: a client parses the key before it logs in.
func checkKey(t *testing.T, c credential.Credential) {
	t.Helper()
	if c.PrivateKey.IsZero() {
		return
	}
	der, err := base64.StdEncoding.DecodeString(c.PrivateKey.Reveal())
	if err == nil {
		_, err = x509.ParsePKCS8PrivateKey(der)
	}
	if err != nil {
		t.Error(err)
	}
}
