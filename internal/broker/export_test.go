package broker

// Hurry has a broker wait so many times shorter than it would for strangers,
// for a place that becomes free, and for Snowflake.
func (c *Config) Hurry(times int) { c.hurry = hurry(times) }
