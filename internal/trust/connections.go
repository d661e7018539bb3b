package trust

import "strings"

// endConnections ends what a user of PostgreSQL or Redshift has open: a
// connection outlives its login.
func (d Demand) endConnections(s *Script) {
	const doc = "3. Abort: connections outlive the login. psql logs in as PGUSER, who may end other users' sessions: a member of\n" +
		"pg_signal_backend, and at Redshift a superuser."
	words := []any{"psql", "--set", "ON_ERROR_STOP=1"}
	for _, o := range [][2]string{{"--host", d.DBT("host")}, {"--port", d.DBT("port")}, {"--dbname", d.DBT("dbname") + d.DBT("database")}} {
		if o[1] != "" {
			words = append(words, o[0], o[1])
		}
	}
	user := d.DBT("user")
	if user == "" {
		user = d.Get("db_user")
	}
	if user == "" {
		name := s.needs(Variable{Name: "DATABASE_USER", Doc: "the database user that dbt logs in as"})
		words = append(words, "--set", shellText(`user="$`+string(name)+`"`))
		s.run(doc, feed(command(words...), d.terminate(":'user'")))
		return
	}
	s.run(doc, feed(command(words...), d.terminate("'"+strings.ReplaceAll(user, "'", "''")+"'")))
}

// terminate is the statement that ends a user's sessions, but not its own. The
// names of Redshift's users of IAM have a prefix.
func (d Demand) terminate(user string) string {
	if d.Case.Login.DBT.Type == "redshift" {
		return "SELECT process, user_name, pg_terminate_backend(process) FROM stv_sessions\n" +
			"WHERE trim(user_name) IN (" + user + ", 'IAM:' || " + user + ", 'IAMR:' || " + user + ") AND process <> pg_backend_pid();\n"
	}
	return "SELECT pid, usename, pg_terminate_backend(pid) FROM pg_stat_activity\n" +
		"WHERE usename = " + user + " AND pid <> pg_backend_pid();\n"
}
