package login

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

const (
	deviceGrant      = "urn:ietf:params:oauth:grant-type:device_code" // RFC 8628, 3.4
	defaultInterval  = 5 * time.Second                                // 3.2
	slower           = 5 * time.Second                                // 3.5
	longestInterval  = time.Minute                                    // after faults of the network
	longestDeviceTry = time.Hour                                      // providers' codes live 10 to 15 minutes
)

// A device is how the person signs in with a browser of another machine.
type device struct {
	code     secret.Value
	user     string // the code that the person enters
	where    string
	complete string // where with the code in it; "" for none
	expiry   time.Time
	interval time.Duration
}

// byDevice has the person sign in with a browser of any machine. (RFC 8628)
func (a *Account) byDevice(ctx context.Context, p provider) (t tokens, err error) {
	if p.Device == "" {
		return t, fault.New(fault.NoIdentity, fmt.Errorf("sign in: %s does not offer the device flow", a.id.Issuer),
			"sign in with a browser of this machine (flow: browser), or let the provider's administrator allow the device flow")
	}
	// A client may be one that must use PKCE in each flow. Where it is not, what is sent for it is ignored.
	verifier := ""
	if slices.Contains(p.Challenges, "S256") && !a.atGoogle() { // which has PKCE for its browser flow only
		verifier = oauth2.GenerateVerifier()
	}
	d, err := a.startDevice(ctx, p, verifier)
	if err != nil {
		return t, err
	}
	form := url.Values{"grant_type": {deviceGrant}, "device_code": {d.code.Reveal()}}
	if verifier != "" {
		form.Set("code_verifier", verifier)
	}
	a.showCode(d)
	err = a.poll(ctx, d, func() (err error) {
		t, err = a.grant(ctx, p, form, false, d.code, secret.New(verifier))
		return err
	})
	return t, err
}

// showCode tells the person where to enter which code.
func (a *Account) showCode(d device) {
	text := "sign in with a browser of any machine: open " + d.where + " and enter the code " + d.user
	if d.complete != "" {
		text += "\nor open " + d.complete
	}
	a.env.Say(text + "\nOnly go on if you have started this yourself, just now.")
}

// startDevice asks for a code.
func (a *Account) startDevice(ctx context.Context, p provider, verifier string) (d device, err error) {
	sent := a.env.Now()
	form := url.Values{"scope": {strings.Join(scopes(a.id, p), " ")}}
	if verifier != "" {
		form.Set("code_challenge", oauth2.S256ChallengeFromVerifier(verifier))
		form.Set("code_challenge_method", "S256")
	}
	body, err := a.post(ctx, p.Device, form, true)
	if err != nil {
		return d, signInError(err)
	}
	var fields struct {
		deviceReply
		Google string `json:"verification_url"` // a draft's name for the address
	}
	if json.Unmarshal(body, &fields) != nil {
		fields.DeviceCode = ""
	}
	fields.Where = cmp.Or(fields.Where, fields.Google)
	return a.readDevice(fields.deviceReply, sent)
}

// A deviceReply is what a provider says of a device code. (RFC 8628, 3.2)
type deviceReply struct {
	DeviceCode string  `json:"device_code"`
	UserCode   string  `json:"user_code"`
	Where      string  `json:"verification_uri"`
	Complete   string  `json:"verification_uri_complete"`
	ExpiresIn  float64 `json:"expires_in"`
	Interval   float64 `json:"interval"`
}

// readDevice checks the reply to a request that was sent at a time.
func (a *Account) readDevice(fields deviceReply, sent time.Time) (d device, err error) {
	malformed := func(what string) (device, error) {
		return d, fault.New(fault.Unreachable, fmt.Errorf("sign in: the provider's reply has %s", what), "")
	}
	if fields.DeviceCode == "" || exchange.IsGarbled(secret.New(fields.DeviceCode)) {
		return malformed("no device code")
	}
	if fields.UserCode == "" || len(fields.UserCode) > 64 || !printable(fields.UserCode) {
		return malformed("no user code")
	}
	for _, address := range []string{fields.Where, fields.Complete} {
		if address == "" && fields.Where != "" {
			continue
		}
		if err := a.checkEndpoint(address); err != nil || !printable(address) {
			return malformed("no address for the person to open")
		}
	}
	if fields.ExpiresIn <= 0 || fields.ExpiresIn > longestDeviceTry.Seconds() {
		return malformed("no usable expiry (expires_in)")
	}
	d = device{
		code: secret.New(fields.DeviceCode), user: fields.UserCode, where: fields.Where, complete: fields.Complete,
		expiry: sent.Add(time.Duration(fields.ExpiresIn) * time.Second), interval: defaultInterval,
	}
	if i := time.Duration(fields.Interval) * time.Second; i > 0 {
		d.interval = min(i, longestInterval)
	}
	return d, nil
}

// printable reports whether a text is visible ASCII with spaces: what a
// provider has a terminal show.
func printable(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
}

// poll asks for the tokens until the person has decided. Every answer of the
// provider ends it but the two that say to ask again. (RFC 8628, 3.5)
func (a *Account) poll(ctx context.Context, d device, ask func() error) error {
	for {
		if err := a.env.Wait(ctx, d.interval); err != nil {
			return fault.New(fault.NoIdentity, fmt.Errorf("sign in: the code was not used: %w", context.Cause(ctx)), "")
		}
		if !a.env.Now().Before(d.expiry) {
			return expired()
		}
		err := ask()
		var refused refusal
		switch {
		case err == nil:
			return nil
		case errors.As(err, &refused) && refused.code == codePending:
		case errors.As(err, &refused) && refused.code == codeSlowDown:
			d.interval += slower
		case errors.As(err, &refused) && refused.code == codeExpired:
			return expired()
		case errors.As(err, &refused):
			return signInError(err)
		case web.IsTemporary(err): // "exponential backoff", for all that is not the provider's answer
			d.interval = min(2*d.interval, max(longestInterval, d.interval))
		default:
			return err
		}
	}
}

// The answers of RFC 8628, 3.5, and of RFC 6749, 5.2, to one who asks again.
const (
	codePending  = "authorization_pending"
	codeSlowDown = "slow_down"
	codeExpired  = "expired_token"
	codeDenied   = "access_denied"
)

// answers reports whether a code is the provider's answer with any status: some
// send slow_down with 429, which would else be a server's that is busy.
func answers(code string) bool {
	return slices.Contains([]string{codePending, codeSlowDown, codeExpired, codeDenied}, code)
}

func expired() error {
	return fault.New(fault.NoIdentity, errors.New("sign in: the code has expired before it was used"), "sign in again")
}
