package trust

import (
	"fmt"
	"slices"
	"strings"
)

// changed returns the identities that only the second list has, and those that
// only the first has. What has no name yet gets the one that follows from it.
func changed(before, after []workloadIdentity) (added, removed []workloadIdentity) {
	lacks := func(list []workloadIdentity, i workloadIdentity) bool {
		return !slices.ContainsFunc(list, func(have workloadIdentity) bool { return have.named() == i.named() })
	}
	for _, i := range after {
		if lacks(before, i) {
			i.Name = i.named()
			added = append(added, i)
		}
	}
	for _, i := range before {
		if lacks(after, i) {
			removed = append(removed, i)
		}
	}
	return added, removed
}

func rotateSnowflake(d, next Demand) (Script, error) {
	before, _, err := d.exacts("Snowflake", nil)
	if err != nil {
		return Script{}, err
	}
	after, _, err := next.exacts("Snowflake", nil)
	if err != nil {
		return Script{}, err
	}
	added, removed := changed(d.identities(before), next.identities(after))
	switch n := len(before) + len(added); {
	case len(added) == 0:
		return Script{}, usage("target %q: nothing changes: the subjects and the audience are the same", d.Target.Name())
	case n > maxIdentities:
		return Script{}, usage("target %q: the new workload identities next to the old ones are %d, and a user in Snowflake has at most %d: "+
			"rotate to another user, with `user` in the policy as the switch", d.Target.Name(), n, maxIdentities)
	}
	var s Script
	d.snowflakeRun(&s, "1. Add the new workload identities next to the old ones. Nothing changes for running jobs.",
		func(sql *sqlText, user sqlName) {
			for _, i := range added {
				sql.run(i.add(user.SQL)...)
			}
		})
	d.switchTo(next, &s, "2.")
	d.snowflakeRun(&s, "3. Verify: the new identities have a last_used, the old ones none that is new, and no login fails.\n"+
		"`oidc-dbt explain --target "+d.Target.Name()+"` in a job shows what the policy decides of its token.",
		func(sql *sqlText, user sqlName) {
			sql.run("SHOW USER WORKLOAD IDENTITY AUTHENTICATION METHODS FOR USER " + user.SQL)
			sql.run(loginHistory(sql, user)...)
		})
	if len(removed) == 0 {
		return s, nil
	}
	d.retire(&s, removed)
	return s, nil
}

// retire disables and then removes what is no longer used.
func (d Demand) retire(s *Script, old []workloadIdentity) {
	s.wait("4. Wait a week, so that every scheduled job has run once with the new identities.",
		"Has every job logged in with the new identities?")
	d.snowflakeRun(s, "Disable the old ones. Undo: the same with DISABLED = FALSE.", func(sql *sqlText, user sqlName) {
		for _, i := range old {
			if i.Name == "" {
				sql.say("The user's own identity, DEFAULT, cannot be disabled; it is removed below. If SHOW lists %q under", i.Subject)
				sql.say("the name %s, disable and remove that one instead.", i.named())
				continue
			}
			sql.run("ALTER USER " + user.SQL + " MODIFY WORKLOAD IDENTITY " + exactName(i.Name).SQL + " SET DISABLED = TRUE")
		}
	})
	s.wait("5. Wait a day.", "Has no job failed to log in since?")
	d.snowflakeRun(s, "Remove the old ones. Undo: add them again, as in TARGET.snowflake.sql of the policy before.",
		func(sql *sqlText, user sqlName) {
			for _, i := range old {
				if i.Name == "" {
					sql.run("ALTER USER " + user.SQL + " UNSET WORKLOAD_IDENTITY")
				} else {
					sql.run("ALTER USER " + user.SQL + " REMOVE WORKLOAD IDENTITY " + exactName(i.Name).SQL)
				}
			}
		})
}

// switchTo adds the policy's and GitHub's part of a rotation.
func (d Demand) switchTo(next Demand, s *Script, number string) {
	if d.Audience() != next.Audience() {
		s.wait(number+" Set the audience in the policy and merge it: the next jobs ask for tokens of it.\n"+
			fmt.Sprintf("    exchange: {%s: {audience: %q, …}}", d.Provider(), next.Audience()), "Is the policy merged?")
	}
	if !slices.Equal(d.Options.SubTemplate, next.Options.SubTemplate) {
		s.run(number + " Customise the subject, after everything else that trusts the repository's tokens has its new trust, too.")
		next.customiseSubject(s, next.repositories())
	}
	if slices.Contains(next.Options.SubTemplate, "job_workflow_ref") {
		s.run("A release of the called workflow changes job_workflow_ref where callers pin it by a commit or a version. For each release:\n" +
			"add its ref to job_workflow_ref in the policy, next to the old one, and add the identities that `trust generate` then has more;\n" +
			"then let the callers switch; then take the old ref out of the policy, and remove its identities.")
	}
}

// snowflakeRun adds statements about the target's user.
func (d Demand) snowflakeRun(s *Script, doc string, write func(*sqlText, sqlName)) {
	sql := &sqlText{d: d}
	write(sql, sql.name("user", "the user that the login becomes"))
	sql.addTo(s, doc)
}

// value writes a name as a string: a constant, or the variable that has it.
func (n sqlName) value() string {
	if n.Exact != "" {
		return sqlLiteral(n.Exact)
	}
	return strings.TrimSuffix(strings.TrimPrefix(n.SQL, "IDENTIFIER("), ")")
}

// loginHistory is the latest logins of a user, without the delay of ACCOUNT_USAGE.
func loginHistory(_ *sqlText, user sqlName) []string {
	return []string{"SELECT EVENT_TIMESTAMP, FIRST_AUTHENTICATION_FACTOR, CLIENT_IP, REPORTED_CLIENT_TYPE, IS_SUCCESS, ERROR_MESSAGE",
		"FROM TABLE(SNOWFLAKE.INFORMATION_SCHEMA.LOGIN_HISTORY_BY_USER(USER_NAME => " + user.value() + ", RESULT_LIMIT => 1000))",
		"ORDER BY EVENT_TIMESTAMP DESC"}
}

func revokeSnowflake(d Demand) (Script, error) { return d.revokeUser(), nil }

// revokeUser are the steps for a user in Snowflake, whatever logs it in.
func (d Demand) revokeUser() (s Script) {
	s.About = []string{
		"Who runs it: someone with jq and `snow`, in a role that owns the user, such as SECURITYADMIN, and that may read",
		"SNOWFLAKE.ACCOUNT_USAGE.",
		"What it breaks: everything that logs in as this user, not only this target, until it is undone.",
	}
	d.snowflakeRun(&s, "1. Contain: nothing logs in this user any more.",
		func(sql *sqlText, user sqlName) { sql.run("ALTER USER " + user.SQL + " SET DISABLED = TRUE") })
	d.snowflakeRun(&s, "2. Abort what runs and what waits.",
		func(sql *sqlText, user sqlName) { sql.run("ALTER USER " + user.SQL + " ABORT ALL QUERIES") })
	d.endSessions(&s)
	d.snowflakeRun(&s, "4. Prove it: after the time of step 1 no login succeeds, and no statement begins.\n"+
		"A factor other than WORKLOAD_IDENTITY or OAUTH_ACCESS_TOKEN is a password or key that was left on the user.",
		func(sql *sqlText, user sqlName) {
			sql.run(loginHistory(sql, user)...)
			sql.run("SELECT START_TIME, QUERY_TYPE, EXECUTION_STATUS, QUERY_TAG, SESSION_ID, QUERY_TEXT",
				"FROM TABLE(SNOWFLAKE.INFORMATION_SCHEMA.QUERY_HISTORY_BY_USER(USER_NAME => "+user.value()+", RESULT_LIMIT => 1000))",
				"ORDER BY START_TIME DESC")
		})
	d.snowflakeRun(&s, "5. Scope: what the user did in the last 30 days beyond reading and building: users, grants, "+
		"shares, stages and copies\n"+
		"out of the account. ACCOUNT_USAGE is up to two hours late: run it again then.",
		func(sql *sqlText, user sqlName) {
			sql.run("SELECT START_TIME, QUERY_TYPE, EXECUTION_STATUS, ROLE_NAME, QUERY_TEXT",
				"FROM SNOWFLAKE.ACCOUNT_USAGE.QUERY_HISTORY",
				"WHERE USER_NAME = "+user.value()+" AND START_TIME > DATEADD(day, -30, CURRENT_TIMESTAMP())",
				"AND (QUERY_TYPE IN ('GRANT', 'REVOKE', 'UNLOAD', 'GET_FILES', 'PUT_FILES') OR QUERY_TYPE ILIKE '%USER%' OR QUERY_TYPE ILIKE '%ROLE%'",
				"  OR QUERY_TYPE ILIKE '%SHARE%' OR QUERY_TYPE ILIKE '%STAGE%' OR QUERY_TYPE ILIKE '%INTEGRATION%')",
				"ORDER BY START_TIME DESC")
			sql.run("SELECT * FROM SNOWFLAKE.ACCOUNT_USAGE.CREDENTIALS WHERE USER_NAME = " + user.value())
		})
	s.run("6. Before you undo it: compare the identities with the policy by `oidc-dbt trust check`, and remove those that are not of it.")
	var open Script
	d.snowflakeRun(&open, "The user logs in again.",
		func(sql *sqlText, user sqlName) { sql.run("ALTER USER " + user.SQL + " SET DISABLED = FALSE") })
	s.Undo = open.Steps
	return s
}

// endSessions ends each session of the user: SYSTEM$ABORT_SESSION takes a constant.
func (d Demand) endSessions(s *Script) {
	sql := &sqlText{d: d}
	user := sql.name("user", "the user that the login becomes")
	sql.run("SELECT DISTINCT TO_VARCHAR(SESSION_ID) AS SESSION_ID",
		"FROM TABLE(SNOWFLAKE.INFORMATION_SCHEMA.QUERY_HISTORY_BY_USER(USER_NAME => "+user.value()+", RESULT_LIMIT => 10000))")
	var list Script
	sql.addTo(&list, "")
	for _, v := range list.Variables {
		s.needs(v)
	}
	query := strings.Replace(list.Steps[0].Run, snow, snow+" --format json", 1)
	s.run("3. End the sessions of the last seven days, which else live on: four hours after their last statement, or longer.",
		"sessions=\"$(", query, ")\"",
		`jq --raw-output '.. | .SESSION_ID? // empty' <<<"$sessions" | while read -r session; do`,
		`  snow sql --enable-templating NONE --query "SELECT SYSTEM\$ABORT_SESSION($session)" </dev/null || true  # it has ended`,
		"done")
}
