package remote_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/ctworker/ctworker/sources/taskfile"
	"github.com/ctworker/ctworker/sources/taskfile/remote"
)

func Example() {
	ctx := context.Background()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Unix(1, 0), strings.NewReader(`[{"task_id": "a", "data": 1}, {"task_id": "b", "data": 2}]`))
	}))
	defer server.Close()

	tasks, err := remote.OpenTasks(ctx, server.URL+"/tasks.json", remote.Options{}, taskfile.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = tasks.Close(ctx) }()
	for {
		ds, err := tasks.Receive(ctx, 10)
		for _, d := range ds {
			fmt.Println(d.Task.ID, string(d.Task.Data))
			_ = d.LetExpire()
		}
		if err != nil {
			return // io.EOF
		}
	}
	// Output:
	// a 1
	// b 2
}
