// Package results exports the results in event logs as a table, in CSV, JSON lines or Parquet.
//
//	logs ─▶ 1: select the final event of each task ─▶ 2: find the columns ─▶ 3: write the rows
//
// The logs are read up to three times. JSON lines need no columns, so the second pass is omitted. If all
// attempts are exported, the first pass is omitted too.
//
// # Guarantee
//
// A table has one row for each task that has a final event: a task event whose field retry is false. If
// a task has several final events, the row contains the last one. An event whose field rerun is true replaces the earlier
// ones, even if it requests a retry.
//
// Memory does not depend on the number of tasks, except for one bit per line of the logs. For many
// tasks, the first pass writes 24 bytes per task event to temporary files.
//
// # Scope
//
// The package does not create the output file. A caller that needs a complete file or none writes to a
// temporary file and renames it.
package results
