package sqsapi

import (
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/ctworker/ctworker/internal/retry"
)

// An entry of a batch counts as successful only if the response contains a successful result with
// its id, even if other parts of the response are invalid.
func TestAnswers_Damaged(t *testing.T) {
	t.Parallel()
	done := func(ids ...string) (all []types.DeleteMessageBatchResultEntry) {
		for _, id := range ids {
			e := types.DeleteMessageBatchResultEntry{}
			if id != "" {
				e.Id = aws.String(id)
			}
			all = append(all, e)
		}
		return all
	}
	failed := func(ids ...string) (all []types.BatchResultErrorEntry) {
		for _, id := range ids {
			all = append(all, types.BatchResultErrorEntry{Id: aws.String(id), Code: aws.String("InternalError")})
		}
		return all
	}
	for name, tc := range map[string]struct {
		done   []types.DeleteMessageBatchResultEntry
		failed []types.BatchResultErrorEntry
		want   string // result of each of three entries: d for done, f for failed, - for none
	}{
		"whole":           {done("0", "1", "2"), nil, "ddd"},
		"empty":           {nil, nil, "---"},
		"without ids":     {done("", "", ""), nil, "---"},
		"unknown ids":     {done("7", "-1", "x"), failed("99"), "---"},
		"a duplicate":     {done("0", "0", "0"), nil, "d--"},
		"done and failed": {done("0", "1", "2"), failed("1"), "dfd"},
		"too many":        {done("0", "1", "2", "3", "4"), failed("5"), "ddd"},
		"too few":         {done("2"), nil, "--d"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := ""
			for _, err := range BatchErrors(3, tc.done, func(e types.DeleteMessageBatchResultEntry) *string { return e.Id }, tc.failed) {
				switch {
				case err == nil:
					got += "d"
				case errors.Is(err, errIncompleteResponse) && Classify(err) == retry.Suspect:
					got += "-"
				case strings.Contains(err.Error(), "InternalError"):
					got += "f"
				}
			}
			if got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
}
