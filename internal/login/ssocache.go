package login

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// awsCache is where a session at IAM Identity Center is kept: in the folder that
// AWS's tools share, in their form. The tokens are in plain files there, which
// is AWS's choice. (botocore, utils.py: SSOTokenLoader, BaseSSOTokenFetcher)
const awsCache = "aws"

const (
	maxCached = 64 << 10 // a session is under 8 kB
	maxFiles  = 1000     // of the folder: one a portal and a registration
)

// A cachedSession is a session as AWS's tools keep it.
type cachedSession struct {
	StartURL            string `json:"startUrl"`
	Region              string `json:"region"`
	AccessToken         string `json:"accessToken"`
	ExpiresAt           string `json:"expiresAt"`
	ClientID            string `json:"clientId,omitempty"`
	ClientSecret        string `json:"clientSecret,omitempty"`
	RegistrationExpires string `json:"registrationExpiresAt,omitempty"`
	RefreshToken        string `json:"refreshToken,omitempty"`
}

// A cachedClient is a registration as AWS's tools keep it.
type cachedClient struct {
	ID      string   `json:"clientId"`
	Secret  string   `json:"clientSecret"`
	Expires string   `json:"expiresAt"`
	Scopes  []string `json:"scopes"`
	Grants  []string `json:"grantTypes,omitempty"`
}

// entry is the file of a key: AWS's tools name it by the key's SHA-1.
func (a *Account) entry(key string) string {
	sum := sha1.Sum([]byte(key)) // a name that is given, and no proof of anything
	return filepath.Join(a.env.AWS, hex.EncodeToString(sum[:])+".json")
}

// sessionEntry is the file that `login` writes: that of the sso-session, if the
// policy names one, else that of the start URL.
func (a *Account) sessionEntry() string {
	if name := a.id.AWSSSO.Session; name != "" {
		return a.entry(name)
	}
	return a.entry(a.id.AWSSSO.StartURL)
}

// clientEntry is the file of the registration, whose key is JSON as Python writes it.
func (a *Account) clientEntry() string {
	sso, session := a.id.AWSSSO, "null"
	if sso.Session != "" {
		session = quotedText(sso.Session)
	}
	return a.entry(fmt.Sprintf(`{"region": %s, "scopes": [%s], "session_name": %s, "startUrl": %s, "tool": "botocore"}`,
		quotedText(sso.Region), quotedText(accountAccess), session, quotedText(sso.StartURL)))
}

// quotedText is a text as JSON, with < and & as they are.
func quotedText(text string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(text) // a string can be encoded
	return strings.TrimSuffix(b.String(), "\n")
}

// cached returns the session in the cache, whichever tool has begun it: that of
// the policy's sso-session, that of the start URL, else that of another
// sso-session with this start URL and region, of which the last to end.
func (a *Account) cached() (s session, err error) {
	if a.env.AWS == "" {
		return s, a.signedOut(errors.New("read the AWS CLI's cache: no home folder is known"))
	}
	first := fs.ErrNotExist
	for _, path := range []string{a.sessionEntry(), a.entry(a.id.AWSSSO.StartURL)} {
		if s, err = a.readSession(path); err == nil {
			return s, nil
		}
		if errors.Is(first, fs.ErrNotExist) {
			first = err
		}
	}
	if s, ok := a.otherSession(); ok {
		return s, nil
	}
	if !errors.Is(first, fs.ErrNotExist) {
		return s, a.signedOut(fmt.Errorf("read the login of identity %q: %w", a.id.Name, first))
	}
	return s, a.signedOut(fmt.Errorf("request role credentials: not signed in as identity %q (%s)", a.id.Name, a.id.AWSSSO.StartURL))
}

// otherSession looks through the cache.
func (a *Account) otherSession() (last session, ok bool) {
	dir, err := os.Open(a.env.AWS)
	if err != nil {
		return last, false
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(maxFiles)
	for _, name := range names {
		key, isJSON := strings.CutSuffix(name, ".json")
		if !isJSON || len(key) != 2*sha1.Size {
			continue
		}
		if s, err := a.readSession(filepath.Join(a.env.AWS, name)); err == nil && s.expiry.After(last.expiry) {
			last, ok = s, true
		}
	}
	return last, ok
}

// readSession reads a file of the cache. It must be this user's, no link, and
// closed to others, who could else sign the person in as themselves, or read it.
func (a *Account) readSession(path string) (s session, err error) {
	var c cachedSession
	if err := readEntry(path, &c); err != nil {
		return s, err
	}
	if c.StartURL != a.id.AWSSSO.StartURL || c.Region != a.id.AWSSSO.Region {
		return s, fmt.Errorf("%q is of start URL %q in region %q", path, c.StartURL, c.Region)
	}
	s = session{access: secret.New(c.AccessToken), place: path, client: registration{id: c.ClientID}}
	if s.expiry, err = awsTime(c.ExpiresAt); err != nil || c.AccessToken == "" || exchange.IsGarbled(s.access) {
		return s, fmt.Errorf("%q holds no session", path)
	}
	if c.RefreshToken != "" && c.ClientSecret != "" {
		if s.client.expiry, err = awsTime(c.RegistrationExpires); err == nil {
			s.refresh, s.client.secret = secret.New(c.RefreshToken), secret.New(c.ClientSecret)
		}
	}
	return s, nil
}

func readEntry(path string, into any) error {
	text, err := disk.ReadSecret(path, maxCached)
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%q %w", path, disk.Cause(err))
	}
	if json.Unmarshal(text, into) != nil {
		return fmt.Errorf("%q is not JSON", path)
	}
	return nil
}

// awsTime reads a time of the cache; older tools wrote UTC in the place of Z.
func awsTime(text string) (time.Time, error) {
	return time.Parse(time.RFC3339, strings.Replace(text, "UTC", "Z", 1))
}

// writeEntry replaces a file of the cache.
func (a *Account) writeEntry(path string, v any) error {
	if a.env.AWS == "" {
		return errors.New("write the AWS CLI's cache: no home folder is known")
	}
	text, err := json.Marshal(v)
	if err == nil {
		err = os.MkdirAll(a.env.AWS, 0o700)
	}
	if err == nil {
		err = disk.Replace(path, text)
	}
	if err != nil {
		return fmt.Errorf("write the AWS CLI's cache %q: %w", a.env.AWS, disk.Cause(err))
	}
	return nil
}

func (a *Account) readClient() (r registration, err error) {
	var c cachedClient
	if a.env.AWS == "" {
		return r, fs.ErrNotExist
	}
	if err := readEntry(a.clientEntry(), &c); err != nil {
		return r, err
	}
	r = registration{id: c.ID, secret: secret.New(c.Secret), grants: c.Grants}
	if r.expiry, err = awsTime(c.Expires); c.ID == "" || c.Secret == "" || exchange.IsGarbled(r.secret) {
		err = fs.ErrNotExist
	}
	return r, err
}

func (a *Account) writeClient(r registration) error {
	return a.writeEntry(a.clientEntry(), cachedClient{
		ID: r.id, Secret: r.secret.Reveal(), Expires: r.expiry.UTC().Format(time.RFC3339),
		Scopes: []string{accountAccess}, Grants: r.grants,
	})
}

func (a *Account) forgetClient() { _ = os.Remove(a.clientEntry()) }

// keepSession stores the session of a sign-in, and notes that it is this program's.
func (a *Account) keepSession(ctx context.Context, s session, store, subject string) error {
	if store == Memory {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.session = &s
		return nil
	}
	unlock, err := a.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	s.place = a.sessionEntry()
	if err := a.writeSession(s); err != nil {
		return err
	}
	return a.writeNote(note{Issuer: a.id.AWSSSO.StartURL, Store: awsCache, Subject: subject, SHA256: s.access.SHA256()})
}

func (a *Account) writeSession(s session) error {
	c := cachedSession{
		StartURL: a.id.AWSSSO.StartURL, Region: a.id.AWSSSO.Region,
		AccessToken: s.access.Reveal(), ExpiresAt: s.expiry.UTC().Format(time.RFC3339),
		ClientID: s.client.id, ClientSecret: s.client.secret.Reveal(),
		RegistrationExpires: s.client.expiry.UTC().Format(time.RFC3339),
	}
	if !s.refresh.IsZero() {
		c.RefreshToken = s.refresh.Reveal()
	}
	return a.writeEntry(s.place, c)
}

// replaceSession puts a refreshed session where the one of before was. It stays
// the AWS CLI's where it was that.
func (a *Account) replaceSession(before, next session) error {
	n, err := a.note()
	ours := err == nil && a.isOurs(n, before)
	if err := a.writeSession(next); err != nil {
		return err
	}
	if !ours {
		return nil
	}
	n.SHA256 = next.access.SHA256()
	return a.writeNote(n)
}

// isOurs reports whether this program has written the session: since then
// `aws sso login` may have put another in its place.
func (a *Account) isOurs(n note, s session) bool {
	return n.Store == awsCache && s.place == a.sessionEntry() && n.SHA256 == s.access.SHA256()
}

func (a *Account) removeSession(s session) error {
	if err := os.Remove(s.place); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Internal, fmt.Errorf("remove the login: %w", err), "")
	}
	return nil
}
