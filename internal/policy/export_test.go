package policy

// RuleLines returns the lines of all rules.
func (p *Policy) RuleLines() (lines []int) {
	for _, t := range p.targets {
		for _, r := range t.rules {
			lines = append(lines, r.line)
		}
	}
	return lines
}

// Matching returns the targets that the claims match.
func (p *Policy) Matching(claims ClaimSet) (names []string) {
	for _, t := range p.targets {
		if _, ok := t.match(p.view(claims)); ok {
			names = append(names, t.name)
		}
	}
	return names
}
