package review

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ParseWithin reads a number of days, such as 14d.
func ParseWithin(text string) (time.Duration, error) {
	number, ok := strings.CutSuffix(text, "d")
	days, err := strconv.ParseUint(number, 10, 14) // 44 years
	if !ok || err != nil {
		return 0, fmt.Errorf("got %q, want a number of days such as 14d", text)
	}
	return time.Duration(days) * day, nil
}
