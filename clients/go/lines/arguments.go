package lines

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"time"
)

// Arguments is what a program was asked to do.
type Arguments struct {
	Command string
	Server  string
	Topic   string
	// Partitions of `create` and `consume`.
	Partitions int32
	// Group of `member`.
	Group string

	// Codec is empty when it is left to the library.
	Codec string
	// MaxBytes is 0 when the client's own limit stays as it is.
	MaxBytes int
	// AtMs is where `consume` begins; nil is the beginning.
	AtMs     *int64
	Instance string
	// Session is 0 when it is left to the library.
	Session time.Duration
}

// Parse reads the command line.
func Parse() Arguments {
	words := os.Args[1:]
	if len(words) < 3 {
		Fail(fmt.Errorf("COMMAND SERVER TOPIC ..., got %q", words))
	}
	asked := Arguments{Command: words[0], Server: words[1], Topic: words[2]}
	words = words[3:]
	if asked.Command != "produce" {
		if len(words) == 0 {
			Fail(fmt.Errorf("%s wants one word more", asked.Command))
		}
		asked.third(words[0])
		words = words[1:]
	}
	asked.options(words)
	return asked
}

func (asked *Arguments) third(word string) {
	if asked.Command == "member" {
		asked.Group = word
		return
	}
	partitions, err := strconv.ParseInt(word, 10, 32)
	if err != nil {
		Fail(err)
	}
	asked.Partitions = int32(partitions)
}

func (asked *Arguments) options(words []string) {
	options := flag.NewFlagSet(asked.Command, flag.ExitOnError)
	options.StringVar(&asked.Codec, "codec", "", "")
	options.IntVar(&asked.MaxBytes, "max-bytes", 0, "")
	options.StringVar(&asked.Instance, "instance", "", "")
	at := options.Int64("at", 0, "")
	session := options.Int64("session-ms", 0, "")
	// It ends the program itself when it fails.
	_ = options.Parse(words)
	asked.Session = time.Duration(*session) * time.Millisecond
	options.Visit(func(option *flag.Flag) {
		if option.Name == "at" {
			asked.AtMs = at
		}
	})
}
