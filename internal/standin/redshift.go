package standin

import (
	"crypto/rand"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// RedshiftConfig is what an account has at Redshift in one region.
type RedshiftConfig struct {
	Region     string
	Clusters   map[string]Cluster   // by identifier
	Workgroups map[string]Workgroup // by name
	// Policies are the roles' own permissions, by ARN: an IAM policy in JSON.
	Policies    map[string]string
	MinDuration time.Duration    // 15 minutes where 0; shorter ones are for tests of expiry
	Now         func() time.Time // time.Now where nil
}

// A Cluster is a provisioned cluster.
type Cluster struct {
	Users []string // of the database, who may log in besides the users of roles
}

// A Workgroup is one of Redshift Serverless.
type Workgroup struct {
	ID string // a UUID, by which permissions name it
}

// A Redshift gives logins as the APIs of Redshift and Redshift Serverless do,
// to the sessions of a token service, and knows them again when they come to
// the database.
type Redshift struct {
	config   RedshiftConfig
	sts      *STS
	policies map[string]sessionPolicy
	server   *httptest.Server

	mu       sync.Mutex
	logins   []Login
	requests map[string]int // by action
}

// A Login is what the service has issued.
type Login struct {
	Place          string // the cluster's identifier, or the workgroup's name
	User, Password string
	Database       string
	Groups         []string
	Expiration     time.Time
	Session        Session // whose it is

	exists bool // the user is one of the database, or is made with the login
}

// StartRedshift starts the service on loopback: both APIs at one endpoint.
// Close it.
func StartRedshift(sts *STS, config RedshiftConfig) (*Redshift, error) {
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.MinDuration == 0 {
		config.MinDuration = 15 * time.Minute
	}
	r := &Redshift{config: config, sts: sts, policies: map[string]sessionPolicy{}, requests: map[string]int{}}
	for role, text := range config.Policies {
		p, err := parseSessionPolicy(text)
		if err != nil {
			return nil, fmt.Errorf("policy of %s: %w", role, err)
		}
		r.policies[role] = p
	}
	server, err := serve(http.HandlerFunc(r.handle))
	if err != nil {
		return nil, err
	}
	r.server = server
	return r, nil
}

// URL returns the endpoint.
func (r *Redshift) URL() string { return r.server.URL }

// Close stops the server.
func (r *Redshift) Close() { r.server.Close() }

// Logins returns everything that was issued.
func (r *Redshift) Logins() []Login {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.logins)
}

// Requests returns how often an action was asked for.
func (r *Redshift) Requests(action string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.requests[action]
}

// Check reports whether the database at a place accepts a login; matches
// compares a password with what the client has shown.
func (r *Redshift) Check(place, user, database string, matches func(password string) bool) error {
	for _, login := range r.Logins() {
		if login.Place == place && login.User == user && login.Database == database && login.exists &&
			r.config.Now().Before(login.Expiration) && matches(login.Password) {
			return nil
		}
	}
	return fmt.Errorf("password authentication failed for user %q", user)
}

func (r *Redshift) handle(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(io.LimitReader(req.Body, 1<<20))
	if err != nil {
		return
	}
	if target := req.Header.Get("X-Amz-Target"); target != "" {
		r.serverless(w, req, body, target)
		return
	}
	r.provisioned(w, req, body)
}

// asked counts a request.
func (r *Redshift) asked(action string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests[action]++
}

// issue checks the permissions and makes a login.
func (r *Redshift) issue(login Login, life time.Duration, needs ...[2]string) (Login, error) {
	for _, n := range needs {
		if !r.policies[login.Session.RoleARN].allows(n[0], n[1]) || !login.Session.may(n[0], n[1]) {
			return login, fmt.Errorf("%s: %s is not authorized to perform: %s on resource: %s because no identity-based policy "+
				"allows the %s action", "User", login.Session.SessionARN, n[0], n[1], n[0])
		}
	}
	login.Password, login.Expiration = rand.Text()+"/"+rand.Text()+"==", r.config.Now().Add(life).Truncate(time.Second)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.logins = append(r.logins, login)
	return login, nil
}

// duration reads what both APIs take: 900 to 3600 seconds, 900 when it is left out.
func (r *Redshift) duration(text string) (time.Duration, error) {
	if text == "" {
		return 15 * time.Minute, nil
	}
	seconds, err := strconv.Atoi(text)
	life := time.Duration(seconds) * time.Second
	if err != nil || life < r.config.MinDuration || life > time.Hour {
		return 0, fmt.Errorf("DurationSeconds is %s, must be between 900 and 3600", text)
	}
	return life, nil
}

var (
	databaseName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_+.@-]{0,63}$`)
	groupName    = regexp.MustCompile(`^[a-z][a-z0-9_+.@-]{0,63}$`)
)

type redshiftCredentials struct {
	User       string `xml:"DbUser" json:"dbUser"`
	Password   string `xml:"DbPassword" json:"dbPassword"`
	Expiration string `json:"-"`
	Seconds    int64  `xml:"-" json:"expiration"`
}

// provisioned is the query protocol of Redshift, version 2012-12-01.
func (r *Redshift) provisioned(w http.ResponseWriter, req *http.Request, body []byte) {
	const namespace = "http://redshift.amazonaws.com/doc/2012-12-01/"
	send := func(status int, v any) {
		text, err := xml.Marshal(v)
		if err != nil {
			panic(err) // our own types
		}
		w.Header().Set("Content-Type", "text/xml")
		w.WriteHeader(status)
		_, _ = w.Write(text) // the client may be gone
	}
	action, login, err := r.clusterCredentials(req, body)
	var failed stsError
	if errors.As(err, &failed) {
		send(failed.status, struct {
			XMLName xml.Name
			Type    string `xml:"Error>Type"`
			Code    string `xml:"Error>Code"`
			Message string `xml:"Error>Message"`
			Request string `xml:"RequestId"`
		}{xml.Name{Space: namespace, Local: "ErrorResponse"}, "Sender", failed.code, failed.message, rand.Text()})
		return
	}
	send(http.StatusOK, struct {
		XMLName xml.Name
		Result  any
		Request string `xml:"ResponseMetadata>RequestId"`
	}{xml.Name{Space: namespace, Local: action + "Response"}, struct {
		XMLName xml.Name
		redshiftCredentials
	}{xml.Name{Local: action + "Result"},
		redshiftCredentials{User: login.User, Password: login.Password, Expiration: login.Expiration.UTC().Format(time.RFC3339)}}, rand.Text()})
}

func (r *Redshift) clusterCredentials(req *http.Request, body []byte) (action string, login Login, err error) {
	form, err := url.ParseQuery(string(body))
	action = form.Get("Action")
	if err != nil || form.Get("Version") != "2012-12-01" || action != "GetClusterCredentials" && action != "GetClusterCredentialsWithIAM" {
		return action, login, stsError{http.StatusBadRequest, "InvalidAction",
			"Could not find operation " + action + " for version " + form.Get("Version")}
	}
	r.asked(action)
	session, err := r.sts.AuthenticateIn(req, body, "redshift", r.config.Region)
	if err != nil {
		return action, login, err
	}
	login = Login{Place: form.Get("ClusterIdentifier"), Database: form.Get("DbName"), Session: session}
	life, err := r.duration(form.Get("DurationSeconds"))
	if err != nil {
		return action, login, stsError{http.StatusBadRequest, "InvalidParameterValue", err.Error()}
	}
	if login.Database != "" && !databaseName.MatchString(login.Database) {
		return action, login, stsError{http.StatusBadRequest, "InvalidParameterValue", "Invalid DbName"}
	}
	resource := func(kind, name string) string {
		return fmt.Sprintf("arn:aws:redshift:%s:%s:%s:%s/%s", r.config.Region, account(session.RoleARN), kind, login.Place, name)
	}
	cluster, known := r.config.Clusters[login.Place]
	needs := [][2]string{{"redshift:" + action, resource("dbname", login.Database)}}
	if action == "GetClusterCredentialsWithIAM" {
		login.User, login.exists = "IAMR:"+session.RoleARN[strings.LastIndex(session.RoleARN, "/")+1:], true
	} else {
		user, create := form.Get("DbUser"), form.Get("AutoCreate") == "true"
		if !databaseName.MatchString(user) {
			return action, login, stsError{http.StatusBadRequest, "InvalidParameterValue", "Invalid DbUser"}
		}
		login.User, login.exists = "IAM:"+user, slices.Contains(cluster.Users, user)
		needs = append(needs, [2]string{"redshift:GetClusterCredentials", resource("dbuser", user)})
		if create {
			login.User, login.exists = "IAMA:"+user, true
			needs = append(needs, [2]string{"redshift:CreateClusterUser", resource("dbuser", user)})
		}
		for n := 1; form.Get(fmt.Sprintf("DbGroups.DbGroup.%d", n)) != ""; n++ {
			group := form.Get(fmt.Sprintf("DbGroups.DbGroup.%d", n))
			if !groupName.MatchString(group) {
				return action, login, stsError{http.StatusBadRequest, "InvalidParameterValue", "Invalid DbGroup"}
			}
			login.Groups = append(login.Groups, group)
			needs = append(needs, [2]string{"redshift:JoinGroup", resource("dbgroup", group)})
		}
	}
	if !known {
		return action, login, stsError{http.StatusNotFound, "ClusterNotFound", "Cluster " + login.Place + " not found."}
	}
	if login, err = r.issue(login, life, needs...); err != nil {
		return action, login, stsError{http.StatusForbidden, "AccessDenied", err.Error()}
	}
	return action, login, nil
}

// serverless is the JSON protocol of Redshift Serverless.
func (r *Redshift) serverless(w http.ResponseWriter, req *http.Request, body []byte, target string) {
	login, err := r.workgroupCredentials(req, body, target)
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	var failed stsError
	if errors.As(err, &failed) {
		w.WriteHeader(failed.status)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": failed.code, "message": failed.message}) // the client may be gone
		return
	}
	_ = json.NewEncoder(w).Encode(redshiftCredentials{User: login.User, Password: login.Password, Seconds: login.Expiration.Unix()})
}

func (r *Redshift) workgroupCredentials(req *http.Request, body []byte, target string) (login Login, err error) {
	if target != "RedshiftServerless.GetCredentials" {
		return login, stsError{http.StatusBadRequest, "UnknownOperationException", ""}
	}
	r.asked("GetCredentials")
	session, err := r.sts.AuthenticateIn(req, body, "redshift-serverless", r.config.Region)
	if err != nil {
		return login, err
	}
	var in struct {
		Workgroup string      `json:"workgroupName"`
		Database  string      `json:"dbName"`
		Seconds   json.Number `json:"durationSeconds"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return login, stsError{http.StatusBadRequest, "SerializationException", ""}
	}
	life, err := r.duration(in.Seconds.String())
	if err == nil && in.Database != "" && !databaseName.MatchString(in.Database) {
		err = errors.New("dbName is invalid")
	}
	if err != nil {
		return login, stsError{http.StatusBadRequest, "ValidationException", err.Error()}
	}
	group, known := r.config.Workgroups[in.Workgroup]
	if !known {
		return login, stsError{http.StatusBadRequest, "ResourceNotFoundException", "The workgroup " + in.Workgroup + " could not be found."}
	}
	login = Login{Place: in.Workgroup, Database: in.Database, Session: session, exists: true,
		User: "IAMR:" + session.RoleARN[strings.LastIndex(session.RoleARN, "/")+1:]}
	arn := fmt.Sprintf("arn:aws:redshift-serverless:%s:%s:workgroup/%s", r.config.Region, account(session.RoleARN), group.ID)
	if login, err = r.issue(login, life, [2]string{"redshift-serverless:GetCredentials", arn}); err != nil {
		return login, stsError{http.StatusForbidden, "AccessDeniedException", err.Error()}
	}
	return login, nil
}
