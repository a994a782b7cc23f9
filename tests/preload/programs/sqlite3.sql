-- SPDX-License-Identifier: MIT
-- Rows that depend on nothing but their number.
PRAGMA synchronous = OFF;
CREATE TABLE rows(id INTEGER PRIMARY KEY, n INTEGER, name TEXT, data BLOB);
CREATE TABLE groups(key INTEGER PRIMARY KEY, title TEXT);
BEGIN;
WITH RECURSIVE count(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM count WHERE i < 100000)
INSERT INTO rows SELECT i, (i * 7919) % 100003, 'name ' || ((i * 31) % 5003),
    CASE WHEN i % 10 = 0 THEN zeroblob(i % 700) END FROM count;
INSERT INTO groups SELECT DISTINCT n % 97, 'group ' || (n % 97) FROM rows;
COMMIT;
CREATE INDEX rows_n ON rows(n);
CREATE INDEX rows_name ON rows(name, n);
ANALYZE;
SELECT count(*), min(n), max(n), sum(length(data)) FROM rows;
SELECT title, count(*), group_concat(DISTINCT name) FROM rows JOIN groups ON key = n % 97
    WHERE n < 3000 GROUP BY title ORDER BY count(*) DESC, title LIMIT 10;
SELECT name, count(*) AS c, avg(n) FROM rows GROUP BY name ORDER BY c DESC, name LIMIT 10;
SELECT a.id, b.id FROM rows a JOIN rows b ON a.n = b.n + 1 WHERE a.name LIKE 'name 11%' ORDER BY a.id
    LIMIT 20;
UPDATE rows SET name = upper(name) || '!' WHERE id % 3 = 0;
DELETE FROM rows WHERE id % 7 = 0;
VACUUM;
SELECT count(*), sum(n), count(DISTINCT name) FROM rows;
PRAGMA integrity_check;
