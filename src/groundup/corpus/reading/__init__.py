"""Sources -> documents or rejections, each with its reason.

sources.py     what a recipe says of a source           files.py       path -> regular files
hub.py         hub name -> files, fetched when read     layouts.py     files -> those that are data
compressed.py  packed -> verified plain bytes           line_sections.py  large file -> sections for workers
archives.py    archive -> members                       archive_members.py, seven_zip.py  tar and zip, 7z
detect.py      first bytes -> format
encodings.py   bytes -> encoding, or candidates         encoding_names.py, alphabets.py  names; how languages spell
formats.py     format -> its reader                     json_records.py, delimited.py, arrow.py  JSON, CSV, Parquet
pages.py       HTML -> main text                        page_markup.py  what extractors get wrong, mended before
warc.py        WARC -> pages                            wiki/          MediaWiki dump -> articles
records.py     row -> document or rejection             readers.py     file -> documents or rejections
"""
