package testdata

// Comments of two lines are read as one text: the process is
// told of the deadline, and the message is
// no task.
var err = "a message that is no task" // in words

/*
Nobody reads blocks either.
*/
const raw = `two
lines: anew`

// Identifiers are not prose. This comment has no violation.
func told() string { return "there is no violation" }
