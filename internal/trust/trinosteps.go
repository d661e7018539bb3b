package trust

import (
	"fmt"
	"strings"
)

// rotateTrino changes subjects next to each other; an audience is only one.
func rotateTrino(d, next Demand) (s Script, err error) {
	old, err := d.trinoTrust(&Wall{})
	if err != nil {
		return s, err
	}
	changed, err := next.trinoTrust(&Wall{})
	if err != nil {
		return s, err
	}
	home := s.needs(Variable{Name: "TRINO_HOME", Doc: "the folder of the coordinator that has etc/config.properties"})
	mapping, config := fmt.Sprintf(`"$%s/%s"`, home, trinoMapping), fmt.Sprintf(`"$%s/etc/config.properties"`, home)
	both := trinoFile{append(append([]trinoRule{}, changed.file.Rules...), old.file.Rules...)}
	s.run("1. The new subjects next to the old ones, then restart the coordinator.", old.keepFile(mapping),
		feed("cat >"+mapping, asJSON(both)))
	if d.Audience() != next.Audience() {
		s.run("2. A coordinator has one required-audience, so tokens for the old one are refused from its restart on: "+
			"choose an hour without runs,\n"+
			"merge the policy with the new audience at the same time, and restart. Undo: the same with the old audience.",
			old.keepFile(config), fmt.Sprintf("sed -i.bak 's|^%srequired-audience=.*|%[1]srequired-audience=%[2]s|' %[3]s",
				strings.ReplaceAll(trinoJWT, ".", `\.`), sedText.Replace(propertyText(next.Audience())), config))
	}
	d.switchTo(next, &s, "3.")
	s.run("4. Verify: `oidc-dbt explain --target "+d.Target.Name()+"` in a job, and who has logged in.", old.queries())
	s.wait("5. Wait until every workflow has run once.", "Has every job logged in since the switch?")
	s.run("The new subjects only, then restart the coordinator. Undo: step 1.", feed("cat >"+mapping, asJSON(changed.file)))
	return s, nil
}

// sedText escapes a text for the right side of the command s of sed, in quotes.
var sedText = strings.NewReplacer(`\`, `\\`, `&`, `\&`, `|`, `\|`, `'`, `'\''`, "\n", "")

// queries shows what the user ran.
func (t trinoTrust) queries() string {
	return command("trino", "--execute", "SELECT query_id, state, source, created, query FROM system.runtime.queries WHERE \"user\" = "+
		pgLiteral(t.user)+" ORDER BY created DESC LIMIT 50")
}

// revokeTrino refuses the subjects first, then ends what they run.
func revokeTrino(d Demand) (s Script, err error) {
	t, err := d.trinoTrust(&Wall{})
	if err != nil {
		return s, err
	}
	s.About = []string{fmt.Sprintf("It ends what target %q may do in Trino, for one who administers the coordinator, with the command trino\n"+
		"set up (TRINO_SERVER and the like) as a user that may kill queries.", oneLine(d.Target.Name()))}
	s.Late = true
	home := s.needs(Variable{Name: "TRINO_HOME", Doc: "the folder of the coordinator that has etc/config.properties"})
	mapping := fmt.Sprintf(`"$%s/%s"`, home, trinoMapping)
	before := fmt.Sprintf(`"$%s/%s.before"`, home, trinoMapping)
	refuse := trinoFile{}
	no := false
	for _, r := range t.file.Rules {
		refuse.Rules = append(refuse.Rules, trinoRule{Pattern: r.Pattern, Allow: &no})
	}
	s.run("1. Contain: keep the mapping, and refuse every subject in it. Other targets' rules are refused as well where "+
		"they are in this file.",
		"[ -e "+before+" ] || cp -p "+mapping+" "+before, feed("cat >"+mapping, asJSON(refuse)))
	s.wait("Restart the coordinator: it reads the file when it starts, and its queries end with it.", "Has the coordinator restarted?")
	s.run("2. Abort what still runs.",
		command("trino", "--output-format", "TSV", "--execute", "SELECT query_id FROM system.runtime.queries WHERE \"user\" = "+pgLiteral(t.user)+
			" AND state NOT IN ('FINISHED', 'FAILED')")+" | while read -r query; do",
		"  "+command("trino", "--execute")+` "CALL system.runtime.kill_query(query_id => '$query', message => 'incident')"`, "done")
	s.run("3. Prove it: no query of the user is younger than step 1. system.runtime.queries forgets; the event "+
		"listener's log has all.", t.queries())
	s.undo("The mapping as it was, when the cause is gone; then restart the coordinator.", "cp -p "+before+" "+mapping)
	return s, nil
}
