package api

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/metadata"
)

var update = flag.Bool("update", false, "write generated files anew")

// missing are the APIs that Apache Kafka 4.3 shows and this broker does not serve yet. The list may only shrink.
var missing = map[int16]string{
	17: "SASLHandshake",
	29: "DescribeACLs", 30: "CreateACLs", 31: "DeleteACLs",
	36: "SASLAuthenticate",
	38: "CreateDelegationToken", 39: "RenewDelegationToken", 40: "ExpireDelegationToken", 41: "DescribeDelegationToken",
	48: "DescribeClientQuotas", 49: "AlterClientQuotas",
	50: "DescribeUserSCRAMCredentials", 51: "AlterUserSCRAMCredentials",
	80: "AddRaftVoter", 81: "RemoveRaftVoter",
}

// reference is what a broker of Apache Kafka 4.3.1 answered to ApiVersions v4.
func reference(t *testing.T) *kmsg.ApiVersionsResponse {
	t.Helper()
	golden, err := os.ReadFile("testdata/golden/apiversions-v4-kafka-4.3.1.bin")
	if err != nil {
		t.Fatal(err)
	}
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.SetVersion(4)
	if err := resp.ReadFrom(golden); err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestVersionRangesAreThoseOfTheReference(t *testing.T) {
	t.Parallel()
	want := map[int16]kmsg.ApiVersionsResponseApiKey{}
	for _, k := range reference(t).ApiKeys {
		want[k.ApiKey] = k
	}
	served := map[int16]bool{}
	for _, row := range table() {
		served[row.key] = true
		k, ok := want[row.key]
		switch {
		case !ok:
			t.Errorf("%s is served, but the reference does not show it", kmsg.NameForKey(row.key))
		case row.shownMin != k.MinVersion || row.max != k.MaxVersion:
			t.Errorf("%s is shown as v%d–%d, want v%d–%d", kmsg.NameForKey(row.key), row.shownMin, row.max, k.MinVersion, k.MaxVersion)
		}
		if missing[row.key] != "" {
			t.Errorf("%s is served: take it off the list of what is missing", kmsg.NameForKey(row.key))
		}
	}
	for key := range want {
		if !served[key] && missing[key] == "" {
			t.Errorf("%s v%d–%d is neither served nor listed as missing", kmsg.NameForKey(key), want[key].MinVersion, want[key].MaxVersion)
		}
	}
	for key, name := range missing {
		if _, ok := want[key]; !ok {
			t.Errorf("%s (%d) is listed as missing, but the reference does not show it", name, key)
		}
	}
}

func TestAPIVersionsShowsTheTable(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	for version := int16(0); version <= 4; version++ {
		req := kmsg.NewPtrApiVersionsRequest()
		req.Version, req.ClientSoftwareName, req.ClientSoftwareVersion = version, "a-client", "1.2.3"
		resp := ask[*kmsg.ApiVersionsResponse](b.client(), req)
		if resp.ErrorCode != 0 || len(resp.ApiKeys) != len(table()) {
			t.Errorf("v%d: code %d, %d keys, want 0 and %d", version, resp.ErrorCode, len(resp.ApiKeys), len(table()))
		}
		if k := resp.ApiKeys[0]; k.ApiKey != 0 || k.MinVersion != 0 || k.MaxVersion != 13 {
			t.Errorf("v%d: the first key is %+v, want Produce 0–13", version, k)
		}
		if version < 3 {
			continue
		}
		want := map[string]kmsg.ApiVersionsResponseSupportedFeature{}
		for _, f := range reference(t).SupportedFeatures {
			want[f.Name] = f
		}
		// What has one level only here is shown so; below v4 a feature whose minimum is 0 is left out.
		only := map[string]int16{"eligible.leader.replicas.version": 0, "kraft.version": 0, "metadata.version": 30}
		shown := map[string]int16{}
		for _, f := range resp.SupportedFeatures {
			shown[f.Name] = f.MaxVersion
			level, alone := only[f.Name]
			if alone && (f.MinVersion != level || f.MaxVersion != level) || !alone && (f.MinVersion != want[f.Name].MinVersion || f.MaxVersion != want[f.Name].MaxVersion) {
				t.Errorf("v%d: %s is supported at %d to %d", version, f.Name, f.MinVersion, f.MaxVersion)
			}
		}
		if n := map[int16]int{3: 1, 4: len(want)}[version]; len(shown) != n {
			t.Errorf("v%d: supported features %v, want %d", version, shown, n)
		}
		if resp.FinalizedFeaturesEpoch <= 0 {
			t.Errorf("v%d: the epoch of the features is %d", version, resp.FinalizedFeaturesEpoch)
		}
		wantLevels := map[string]int16{"group.version": 1, "metadata.version": 30, "share.version": 1, "streams.version": 1, "transaction.version": 2}
		if levels, _ := finalized(b.client()); !maps.Equal(levels, wantLevels) {
			t.Errorf("finalized features %v, want %v", levels, wantLevels)
		}
	}
}

func TestUnknownAPIVersionsVersionIsAnsweredAtVersion0(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	for _, version := range []int16{5, 100} {
		c := b.client()
		req := kmsg.NewPtrApiVersionsRequest()
		req.Version = version
		c.send(req)
		v0 := kmsg.NewPtrApiVersionsRequest()
		resp := answered[*kmsg.ApiVersionsResponse](c, v0)
		if resp.ErrorCode != kerr.UnsupportedVersion.Code {
			t.Errorf("v%d: code %d, want UNSUPPORTED_VERSION", version, resp.ErrorCode)
		}
		if len(resp.ApiKeys) != 1 || resp.ApiKeys[0].ApiKey != 18 || resp.ApiKeys[0].MaxVersion != 4 {
			t.Errorf("v%d: keys %+v, want ApiVersions 0–4", version, resp.ApiKeys)
		}
		if got := ask[*kmsg.ApiVersionsResponse](c, v0); got.ErrorCode != 0 {
			t.Errorf("v%d: the next request on the connection got code %d", version, got.ErrorCode)
		}
	}
}

func TestClientSoftwareNameIsChecked(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	for _, name := range []string{"", "-a", "a b", "a\x00", "ä"} {
		req := kmsg.NewPtrApiVersionsRequest()
		req.Version, req.ClientSoftwareName, req.ClientSoftwareVersion = 3, name, "1"
		if resp := ask[*kmsg.ApiVersionsResponse](b.client(), req); resp.ErrorCode != kerr.InvalidRequest.Code {
			t.Errorf("name %q: code %d, want INVALID_REQUEST", name, resp.ErrorCode)
		}
	}
}

func TestWhatIsNotServedClosesTheConnection(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	for key := int16(0); key < 100; key++ {
		req := kmsg.RequestForKey(key)
		if req == nil {
			continue
		}
		row, served := b.api.row(key)
		if !served {
			b.client().closedBy(req)
			continue
		}
		for _, version := range []int16{row.min - 1, row.max + 1} {
			if version >= 0 && key != 18 {
				req.SetVersion(version)
				b.client().closedBy(req)
			}
		}
	}
}

// TestProtocolPageIsUpToDate compares docs/protocol.md with the table; -update writes it.
func TestProtocolPageIsUpToDate(t *testing.T) {
	t.Parallel()
	const path = "../../docs/protocol.md"
	page := protocolPage(t)
	if *update {
		if err := os.MkdirAll("../../docs", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != page {
		t.Errorf("%s is out of date: go test ./internal/api -run ProtocolPage -update", path)
	}
}

func protocolPage(t *testing.T) string {
	t.Helper()
	var page strings.Builder
	page.WriteString("# Protocol coverage\n\n")
	page.WriteString("Generated from the table of APIs (`internal/api/table.go`) and from what Apache Kafka 4.3.1 shows; do not edit.\n\n")
	page.WriteString("Versions are the same as Kafka's wherever an API is served. What each handler does, version by version, and what it\n")
	page.WriteString("leaves out on purpose, is written at the top of its file in `internal/api`.\n\n")
	page.WriteString("| key | API | Kafka 4.3 | Ottla |\n|---:|---|---|---|\n")
	rows := map[int16]api{}
	for _, row := range table() {
		rows[row.key] = row
	}
	served := 0
	kafka := reference(t).ApiKeys
	byKey := map[int16]kmsg.ApiVersionsResponseApiKey{}
	highest := int16(0)
	for _, k := range kafka {
		byKey[k.ApiKey] = k
		highest = max(highest, k.ApiKey)
	}
	for key := int16(0); key <= highest; key++ {
		k, ok := byKey[key]
		if !ok {
			continue
		}
		have := "not yet"
		if row, ok := rows[key]; ok {
			served++
			have = versionRange(row.min, row.max)
			if row.shownMin != row.min {
				have += fmt.Sprintf(" (shown from %d)", row.shownMin)
			}
		}
		fmt.Fprintf(&page, "| %d | %s | %s | %s |\n", key, kmsg.NameForKey(key), versionRange(k.MinVersion, k.MaxVersion), have)
	}
	fmt.Fprintf(&page, "\n%d of %d APIs.\n", served, len(kafka))
	writeFeatures(t, &page)
	return page.String()
}

// writeFeatures adds the chapter about features.
func writeFeatures(t *testing.T, page *strings.Builder) {
	t.Helper()
	page.WriteString("\n## Features\n\nThe levels that `kafka-features` shows and sets (KIP-584):\n\n")
	page.WriteString("| feature | Kafka 4.3 | Ottla |\n|---|---|---|\n")
	kafka := map[string]kmsg.ApiVersionsResponseSupportedFeature{}
	for _, f := range reference(t).SupportedFeatures {
		kafka[f.Name] = f
	}
	for _, f := range metadata.Features {
		fmt.Fprintf(page, "| `%s` | %s | %s |\n", f.Name, versionRange(kafka[f.Name].MinVersion, kafka[f.Name].MaxVersion), versionRange(f.Min, f.Max))
	}
	page.WriteString(`
A cluster has each at its highest level until levels are first set. What is not as in Kafka:

* A feature with one level cannot be set to another, and a request that asks for it fails as a whole: so does
  ` + "`kafka-features upgrade --release-version 4.3`, which asks for `kraft.version` 1" + `. Partitions have one replica, so none of
  them needs eligible leader replicas; there is no KRaft quorum; metadata does not have Kafka's formats, and level 30 (4.3-IV0)
  tells clients what they may expect.
* ` + "`transaction.version`" + ` is what clients go by: below 2 they end transactions without a new producer epoch. Requests of either
  protocol are carried out at every level, where Kafka at level 0 fails EndTxn v5, and the records of ` + "`__transaction_state`" + ` have
  the same format at every level.
`)
}

func versionRange(low, high int16) string {
	if low == high {
		return fmt.Sprint(low)
	}
	return fmt.Sprintf("%d–%d", low, high)
}
