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
