package main

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
)

// updates runs statements that are no queries, and returns how many rows each has changed.
func (s *session) updates(statements ...string) (any, error) {
	counts := []int64{}
	for _, sql := range statements {
		count, err := s.client.ExecuteUpdate(s.ctx, sql)
		if err != nil {
			return nil, err
		}
		counts = append(counts, count)
	}
	return counts, nil
}

// ingest uploads one batch, into a table that there is or a new one.
func (s *session) ingest(batch arrow.RecordBatch, options *flightsql.ExecuteIngestOpts) (int64, error) {
	reader, err := array.NewRecordReader(batch.Schema(), []arrow.RecordBatch{batch})
	if err != nil {
		return 0, err
	}
	defer reader.Release()
	options.TableDefinitionOptions = &flightsql.TableDefinitionOptions{
		IfNotExist: flightsql.TableDefinitionOptionsTableNotExistOptionCreate,
		IfExists:   flightsql.TableDefinitionOptionsTableExistsOptionAppend,
	}
	return s.client.ExecuteIngest(s.ctx, reader, options)
}

// change adds rows within a transaction in each of three ways, and counts what is there then.
func (s *session) change(transaction *flightsql.Txn) (any, error) {
	if _, err := transaction.ExecuteUpdate(s.ctx, "INSERT INTO written VALUES (20, 'text')"); err != nil {
		return nil, err
	}
	prepared, err := transaction.Prepare(s.ctx, "INSERT INTO written VALUES (?, ?)")
	if err != nil {
		return nil, err
	}
	defer prepared.Close(s.ctx)
	prepared.SetParameters(parameters(21, "prepared", 22, "prepared"))
	if _, err := prepared.ExecuteUpdate(s.ctx); err != nil {
		return nil, err
	}
	rows, err := s.fetch(transaction.Execute(s.ctx, "SELECT count(*) AS n FROM written"))
	if err != nil {
		return nil, err
	}
	options := flightsql.ExecuteIngestOpts{Table: "loaded", TransactionId: transaction.ID()}
	count, err := s.ingest(parameters(1, "a"), &options)
	return []any{rows, count}, err
}

// within makes changes in a transaction and ends it; the result tells what was there inside and is after it.
func (s *session) within(end func(*flightsql.Txn) error) (any, error) {
	transaction, err := s.client.BeginTransaction(s.ctx)
	if err != nil {
		return nil, err
	}
	inside, err := s.change(transaction)
	if err != nil {
		return nil, err
	}
	if err := end(transaction); err != nil {
		return nil, err
	}
	after, err := s.query(`SELECT (SELECT count(*) FROM written) AS written,
		(SELECT count(*) FROM sys.datasets WHERE name = 'loaded') AS loaded`)
	return []any{inside, after}, err
}

// conflict changes one row in two transactions.
func (s *session) conflict() (any, error) {
	both := []*flightsql.Txn{}
	for range 2 {
		transaction, err := s.client.BeginTransaction(s.ctx)
		if err != nil {
			return nil, err
		}
		both = append(both, transaction)
		if _, err := transaction.ExecuteUpdate(s.ctx, "UPDATE written SET s = 'x' WHERE i = 1"); err != nil {
			return nil, err
		}
	}
	if err := both[0].Commit(s.ctx); err != nil {
		return nil, err
	}
	return nil, both[1].Commit(s.ctx)
}

func writes(s *session) {
	show("create and change", func() (any, error) {
		return s.updates(
			"CREATE TABLE written (i INTEGER PRIMARY KEY, s VARCHAR)",
			"INSERT INTO written VALUES (1, 'a'), (2, 'b'), (3, 'c')",
			"UPDATE written SET s = upper(s) WHERE i > 1",
			"DELETE FROM written WHERE i = 3",
			"ALTER TABLE written ADD COLUMN n BIGINT DEFAULT 7",
			"CREATE VIEW seen AS SELECT i, n FROM written",
		)
	})
	show("written", func() (any, error) { return s.query("FROM written ORDER BY i") })
	show("read through a view", func() (any, error) { return s.query("FROM seen WHERE i = 1") })
	show("drop a column", func() (any, error) { return s.updates("DROP VIEW seen", "ALTER TABLE written DROP COLUMN n") })
	show("key that is there", func() (any, error) { return s.updates("INSERT INTO written VALUES (1, 'z')") })
	show("rolled back", func() (any, error) {
		return s.within(func(transaction *flightsql.Txn) error { return transaction.Rollback(s.ctx) })
	})
	show("committed", func() (any, error) {
		return s.within(func(transaction *flightsql.Txn) error { return transaction.Commit(s.ctx) })
	})
	show("conflict", s.conflict)
	show("ingest", func() (any, error) {
		return s.ingest(parameters(2, "b", 3, "c"), &flightsql.ExecuteIngestOpts{Table: "loaded"})
	})
	show("drop", func() (any, error) { return s.updates("DROP TABLE written", "DROP TABLE loaded") })
}
