package standin

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

var (
	authorizationText = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([^,]+), ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})$`)
	credentialText    = regexp.MustCompile(`^([^/]+)/(\d{8})/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request$`)
)

// A claimed is what a request says of its own signature.
type claimed struct {
	key, day, region, service string // of the credential's scope
	stamp                     string
	token                     string
	headers                   string // the signed ones, divided by semicolons
	signature                 string
	query                     url.Values // what is signed of it
}

// scope reads a credential's scope.
func (c *claimed) scope(credential string) bool {
	m := credentialText.FindStringSubmatch(credential)
	if m == nil {
		return false
	}
	c.key, c.day, c.region, c.service = m[1], m[2], m[3], m[4]
	return true
}

func forbidden(code, message string) stsError {
	return stsError{http.StatusForbidden, code, message}
}

// Authenticate verifies a request's signature, session token and expiry, and
// returns whose it is. The error is one of AWS's. (AWS General Reference,
// "Create a signed AWS API request"; paths other than `/` are S3's business.)
func (s *STS) Authenticate(r *http.Request, body []byte, service string) (Session, error) {
	c := claimed{stamp: r.Header.Get("X-Amz-Date"), token: r.Header.Get("X-Amz-Security-Token"), query: r.URL.Query()}
	m := authorizationText.FindStringSubmatch(r.Header.Get("Authorization"))
	if m == nil || !c.scope(m[1]) {
		return Session{}, forbidden("MissingAuthenticationToken", "Request is missing Authentication Token")
	}
	c.headers, c.signature = m[2], m[3]
	if !slices.Contains(strings.Split(c.headers, ";"), "x-amz-date") {
		c.service = "" // a date that is not signed does not count
	}
	return s.verify(r, body, service, c)
}

// AuthenticateIn is Authenticate for a service of one region.
func (s *STS) AuthenticateIn(r *http.Request, body []byte, service, region string) (Session, error) {
	session, err := s.Authenticate(r, body, service)
	if err == nil && !strings.Contains(r.Header.Get("Authorization"), "/"+region+"/"+service+"/") {
		return Session{}, forbidden("SignatureDoesNotMatch", "Credential should be scoped to a valid region.")
	}
	return session, err
}

// AuthenticateRDS verifies the password of a login at a database of RDS as its
// server does: a GET request of the action connect for this user at this
// address, presigned in the database's region at most 15 minutes ago. (Amazon
// RDS User Guide, "IAM database authentication")
func (s *STS) AuthenticateRDS(password, address, user, region string) (Session, error) {
	refused := forbidden("AccessDenied", "PAM authentication failed for user \""+user+"\"")
	r, err := http.NewRequest(http.MethodGet, "https://"+password, nil)
	if err != nil || r.URL.User != nil || r.URL.Path != "/" && r.URL.Path != "" {
		return Session{}, refused
	}
	q := r.URL.Query()
	c := claimed{stamp: q.Get("X-Amz-Date"), token: q.Get("X-Amz-Security-Token"), headers: q.Get("X-Amz-SignedHeaders"),
		signature: q.Get("X-Amz-Signature"), query: r.URL.Query()}
	c.query.Del("X-Amz-Signature")
	switch {
	case r.URL.Host != address, q.Get("Action") != "connect", q.Get("DBUser") != user, q.Get("X-Amz-Expires") != "900",
		q.Get("X-Amz-Algorithm") != "AWS4-HMAC-SHA256", !c.scope(q.Get("X-Amz-Credential")), c.region != region:
		return Session{}, refused
	}
	for _, values := range q {
		if len(values) != 1 {
			return Session{}, refused
		}
	}
	session, err := s.verify(r, nil, "rds-db", c)
	if err != nil {
		return Session{}, refused // RDS says no more
	}
	return session, nil
}

// maxAge is how old a signature may be.
const maxAge = 15 * time.Minute

// verify checks what a request claims.
func (s *STS) verify(r *http.Request, body []byte, service string, c claimed) (Session, error) {
	session, ok := s.Session(c.key)
	switch {
	case !ok, c.token != session.SessionToken:
		return Session{}, forbidden("InvalidClientTokenId", "The security token included in the request is invalid.")
	case s.over(session):
		return Session{}, forbidden("ExpiredToken", "The security token included in the request is expired")
	}
	names := strings.Split(c.headers, ";")
	at, err := time.Parse("20060102T150405Z", c.stamp)
	switch {
	case err != nil, !strings.HasPrefix(c.stamp, c.day), c.service != service, !slices.Contains(names, "host"):
		return Session{}, forbidden("SignatureDoesNotMatch", "Credential should be scoped to correct service and date.")
	case at.Sub(s.config.Now()).Abs() >= maxAge:
		return Session{}, forbidden("SignatureDoesNotMatch", "Signature expired: "+c.stamp+" is more than 15 minutes from now")
	}
	var canonical strings.Builder
	path := r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	canonical.WriteString(r.Method + "\n" + path + "\n" + strings.ReplaceAll(c.query.Encode(), "+", "%20") + "\n")
	for _, name := range names {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length": // the server takes it out of the header
			value = strconv.FormatInt(r.ContentLength, 10)
		}
		canonical.WriteString(name + ":" + strings.Join(strings.Fields(value), " ") + "\n")
	}
	canonical.WriteString("\n" + c.headers + "\n" + hash(body))
	text := strings.Join([]string{"AWS4-HMAC-SHA256", c.stamp,
		c.day + "/" + c.region + "/" + c.service + "/aws4_request", hash([]byte(canonical.String()))}, "\n")
	k := []byte("AWS4" + session.SecretAccessKey)
	for _, part := range []string{c.day, c.region, c.service, "aws4_request", text} {
		mac := hmac.New(sha256.New, k)
		mac.Write([]byte(part))
		k = mac.Sum(nil)
	}
	if !hmac.Equal([]byte(hex.EncodeToString(k)), []byte(c.signature)) {
		return Session{}, forbidden("SignatureDoesNotMatch",
			"The request signature we calculated does not match the signature you provided. "+
				"Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	return session, nil
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
