package stages

// Decide exports verdictOf to tests.
var Decide = verdictOf
