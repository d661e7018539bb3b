package broker

import (
	"errors"
	"strconv"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
)

// passwordFile is what libpq reads at each connection for its password, where
// PGPASSFILE names it. (PostgreSQL: The Password File; before version 14 a line
// had at most 320 bytes, which the tokens of clouds are longer than)
func passwordFile(b *Broker) (service, error) {
	u := b.config.Route.Upstream
	if u.Host == "" || u.Port == 0 {
		return service{}, errors.New("the database has no host or port")
	}
	return service{file: &file{name: "pgpass", content: func(c credential.Credential) ([]byte, error) {
		user, password := u.User, c.Password
		if c.User != "" {
			user = c.User
		}
		if password.IsZero() {
			password = c.Token
		}
		if user == "" || password.IsZero() {
			return nil, errors.New("the credential has no user and password")
		}
		database := escape(u.Database)
		if u.Database == "" {
			database = "*" // only dbt knows it
		}
		// The line is for this server and user only, so that another reader of the
		// file does not send the password elsewhere.
		line := strings.Join([]string{escape(u.Host), strconv.Itoa(u.Port), database, escape(user), escape(password.Reveal())}, ":")
		if strings.ContainsAny(line, "\r\n\x00") {
			return nil, errors.New("the user, the database or the password contains a line break or NUL")
		}
		return []byte(line + "\n"), nil
	}}}, nil
}

// escape escapes libpq's separators. The user "*" would match any user, but only
// at this server.
func escape(field string) string {
	return strings.NewReplacer(`\`, `\\`, ":", `\:`).Replace(field)
}
