package node

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Some metrics are there only now and then, so a look at a node's page doesn't say that docs/metrics.md has them all.
func TestMetricsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	made, found := regexp.MustCompile(`desc\("(\w+)", "([^"]*)", (.*)\)`), 0
	for _, file := range []string{"metrics.go", "meshmetrics.go"} {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range made.FindAllStringSubmatch(string(source), -1) {
			found++
			var labels []string
			for _, l := range regexp.MustCompile(`"(\w+)"`).FindAllStringSubmatch(strings.Replace(m[3], "db...", `"database", "region"`, 1), -1) {
				labels = append(labels, "`"+l[1]+"`")
			}
			slices.Sort(labels)
			row := regexp.MustCompile("(?m)^" + regexp.QuoteMeta(fmt.Sprintf("| `respmesh_%s` |", m[1])) + ` (gauge|counter) ` +
				regexp.QuoteMeta(fmt.Sprintf("| %s | %s |", strings.Join(labels, ", "), m[2])) + "$")
			if !row.Match(page) {
				t.Errorf("docs/metrics.md has no row for respmesh_%s with %s: %s", m[1], strings.Join(labels, ", "), m[2])
			}
		}
	}
	if found < 25 {
		t.Errorf("only %d metrics found", found)
	}
}
