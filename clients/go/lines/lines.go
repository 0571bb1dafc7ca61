// Package lines is the line protocol of the acceptance clients; clients/python/lines.py says what is
// spoken.
package lines

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// deadline after which a program has failed, wherever it hangs.
const deadline = 180 * time.Second

// Bytes are hexadecimal in JSON, and null when they are nil.
type Bytes []byte

// MarshalJSON writes hexadecimal.
func (bytes Bytes) MarshalJSON() ([]byte, error) {
	if bytes == nil {
		return []byte("null"), nil
	}
	return json.Marshal(hex.EncodeToString(bytes))
}

// UnmarshalJSON reads hexadecimal. Empty is not nil.
func (bytes *Bytes) UnmarshalJSON(text []byte) error {
	var digits *string
	if err := json.Unmarshal(text, &digits); err != nil {
		return err
	}
	if digits == nil {
		*bytes = nil
		return nil
	}
	*bytes = make([]byte, hex.DecodedLen(len(*digits)))
	_, err := hex.Decode(*bytes, []byte(*digits))
	return err
}

// Header is a pair in JSON.
type Header struct {
	Name  string
	Value Bytes
}

// MarshalJSON writes the pair.
func (header Header) MarshalJSON() ([]byte, error) {
	return json.Marshal([]any{header.Name, header.Value})
}

// UnmarshalJSON reads the pair.
func (header *Header) UnmarshalJSON(text []byte) error {
	return json.Unmarshal(text, &[]any{&header.Name, &header.Value})
}

// Record as it is written; without a time it gets the client's own.
type Record struct {
	Key     Bytes    `json:"k"`
	Value   Bytes    `json:"v"`
	Headers []Header `json:"h"`
	AtMs    *int64   `json:"t"`
}

// Time of the record; zero leaves it to the library.
func (record Record) Time() time.Time {
	if record.AtMs == nil {
		return time.Time{}
	}
	return time.UnixMilli(*record.AtMs)
}

// Read is a record with its place.
type Read struct {
	Partition int32    `json:"p"`
	Offset    int64    `json:"o"`
	AtMs      int64    `json:"t"`
	Key       Bytes    `json:"k"`
	Value     Bytes    `json:"v"`
	Headers   []Header `json:"h"`
}

// Report says what became of a record.
type Report struct {
	Partition int32   `json:"p"`
	Offset    int64   `json:"o"`
	Error     *string `json:"e"`
}

// Refused is the report of a record that the client or the server did not take.
func Refused(name string) Report {
	return Report{Partition: -1, Offset: -1, Error: &name}
}

var (
	outMutex sync.Mutex
	out      = bufio.NewWriter(os.Stdout)
)

// Emit writes one line at once.
func Emit(line any) {
	outMutex.Lock()
	defer outMutex.Unlock()
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(line); err != nil {
		Fail(err)
	}
	if err := out.Flush(); err != nil {
		Fail(err)
	}
}

// EmitOne writes an object with one field.
func EmitOne(name string, value any) {
	Emit(map[string]any{name: value})
}

// Records calls take with each record of stdin.
func Records(take func(Record)) {
	decoder := json.NewDecoder(bufio.NewReader(os.Stdin))
	for {
		var record Record
		if err := decoder.Decode(&record); err == io.EOF {
			return
		} else if err != nil {
			Fail(err)
		}
		take(record)
	}
}

// Commands is what the test says, read by a goroutine: fetching goes on meanwhile.
func Commands() <-chan []string {
	said := make(chan []string)
	go func() {
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			said <- strings.Fields(lines.Text())
		}
		said <- []string{"stop"}
	}()
	return said
}

// EndAtTheDeadline ends the program with a failure when the deadline comes.
func EndAtTheDeadline() {
	time.AfterFunc(deadline, func() { Fail(fmt.Errorf("not done within %v", deadline)) })
}

// Fail ends the program.
func Fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// Complain says what went wrong and goes on.
func Complain(err error) {
	fmt.Fprintln(os.Stderr, err)
}
