package stages

// Decide is verdictOf, for tests.
var Decide = verdictOf
